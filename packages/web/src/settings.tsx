import { createContext, use, useEffect, useMemo, useState, type ReactNode } from 'react';
import { I18nProvider } from 'react-aria-components';
import { en, type Words } from './words/en.ts';
import { zhCN } from './words/zh-cn.ts';

export type Language = 'en' | 'zh-CN';
export type Theme = 'system' | 'light' | 'dark';

interface Settings {
  readonly language: Language;
  readonly theme: Theme;
  readonly words: Words;
  readonly setLanguage: (language: Language) => void;
  readonly setTheme: (theme: Theme) => void;
}

const SettingsContext = createContext<Settings | undefined>(undefined);
const CATALOGUES: Readonly<Record<Language, Words>> = { en, 'zh-CN': zhCN };

/** Language and theme of whoever sits here; kept in this browser. Nothing of a patient is ever kept. */
export function SettingsProvider({ children }: { readonly children: ReactNode }): ReactNode {
  const [language, setLanguage] = useState<Language>(() => ((kept('language') ?? navigator.language).startsWith('zh') ? 'zh-CN' : 'en'));
  const [theme, setTheme] = useState<Theme>(() => themeOf(kept('theme')));
  useEffect(() => {
    document.documentElement.lang = language;
    keep('language', language);
  }, [language]);
  useEffect(() => {
    document.documentElement.dataset['theme'] = theme;
    keep('theme', theme);
  }, [theme]);
  const settings = useMemo(() => ({ language, theme, words: CATALOGUES[language], setLanguage, setTheme }), [language, theme]);
  return (
    <SettingsContext value={settings}>
      <I18nProvider locale={language}>{children}</I18nProvider>
    </SettingsContext>
  );
}

/** Language, theme and how to change them. */
export function useSettings(): Settings {
  const settings = use(SettingsContext);
  if (settings === undefined) throw new Error('SettingsProvider is missing above this component');
  return settings;
}

/** The words of the chosen language. */
export function useWords(): Words {
  return useSettings().words;
}

function themeOf(text: string | undefined): Theme {
  return text === 'light' || text === 'dark' ? text : 'system';
}

function kept(key: string): string | undefined {
  try {
    return localStorage.getItem(`meridian.${key}`) ?? undefined;
  } catch {
    // Storage is switched off in this browser: the choice lasts as long as the page.
    return undefined;
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(`meridian.${key}`, value);
  } catch {
    // As above.
  }
}
