import type { ReactNode } from 'react';
import type { NodeView, Purpose } from './api/types.ts';
import { momentText } from './format.ts';
import { useSettings, type Language, type Theme } from './settings.tsx';

const PURPOSES: readonly Purpose[] = ['TREAT', 'ETREAT', 'PATRQT'];

interface ShellProps {
  readonly node: NodeView | undefined;
  readonly nodeError: Error | null;
  readonly purpose: Purpose;
  readonly onPurpose: (purpose: Purpose) => void;
  readonly children: ReactNode;
}

/** What stays around every page: own hospital, purpose, language, theme, state of the node. */
export function Shell({ node, nodeError, purpose, onPurpose, children }: ShellProps): ReactNode {
  const { words, language, theme, setLanguage, setTheme } = useSettings();
  return (
    <>
      <a className="skip" href="#content">
        {words.skip}
      </a>
      <header className="bar">
        <img src="/mark.svg" width="32" height="32" alt="" />
        <div className="bar-who">
          <span className="muted small">{words.thisHospital}</span>
          <strong>{node?.hospitalName ?? '…'}</strong>
        </div>
        <div className="bar-tools">
          <label>
            <span className="muted small">{words.purpose}</span>
            <select value={purpose} onChange={(event) => onPurpose(event.target.value as Purpose)}>
              {PURPOSES.map((code) => (
                <option key={code} value={code}>
                  {words.purposes[code]}
                </option>
              ))}
            </select>
          </label>
          <label>
            <span className="muted small">{words.language}</span>
            <select value={language} onChange={(event) => setLanguage(event.target.value as Language)}>
              <option value="en" lang="en">
                English
              </option>
              <option value="zh-CN" lang="zh-CN">
                简体中文
              </option>
            </select>
          </label>
          <label>
            <span className="muted small">{words.theme}</span>
            <select value={theme} onChange={(event) => setTheme(event.target.value as Theme)}>
              <option value="system">{words.themeSystem}</option>
              <option value="light">{words.themeLight}</option>
              <option value="dark">{words.themeDark}</option>
            </select>
          </label>
        </div>
      </header>
      <Banner node={node} nodeError={nodeError} />
      <main id="content" tabIndex={-1}>
        {children}
      </main>
      <footer className="foot muted small">
        {node !== undefined && (
          <>
            <span>{words.storage(node.storage.studies, node.storage.instances)}</span>
            <span>AE {node.aeTitle}</span>
            <IndexState node={node} />
            <span>{words.version(node.version)}</span>
          </>
        )}
      </footer>
    </>
  );

  function IndexState({ node: current }: { readonly node: NodeView }): ReactNode {
    if (!current.joined) return <span>○ {words.notJoined}</span>;
    if (current.index === undefined) return null;
    return current.index.state === 'connected' ? (
      <span>● {words.indexConnected}</span>
    ) : (
      <span>▲ {words.indexUnreachable(momentText(current.index.sinceEpochMs, language))}</span>
    );
  }
}

/** One slot for what concerns everybody, the gravest first. */
function Banner({ node, nodeError }: Pick<ShellProps, 'node' | 'nodeError'>): ReactNode {
  const { words, language } = useSettings();
  const index = node?.index;
  const text =
    nodeError !== null
      ? words.nodeDown
      : node?.storage.readOnly === true
        ? words.readOnly
        : index?.state === 'unreachable'
          ? words.indexUnreachable(momentText(index.sinceEpochMs, language))
          : undefined;
  return (
    <div className="banner-slot" role="status">
      {text !== undefined && (
        <p className="banner">
          <span aria-hidden="true">▲ </span>
          {text}
        </p>
      )}
    </div>
  );
}
