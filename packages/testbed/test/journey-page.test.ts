import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from '@jest/globals';
import { repositoryFolder, testNeeding } from '@meridian/shared/testing/needs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { HOSPITALS, type HospitalKey, WANG } from '../src/demo/cast.ts';
import { generateStudy, type StudyOrder } from '../src/data/studies.ts';
import { sendAll } from '../src/modality.ts';
import { type Hospital, type Network, openNetwork } from '../src/network.ts';

const BROWSER = {
  executablePath: '/usr/bin/chromium',
  args: [
    '--use-gl=angle',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--no-sandbox',
    '--disable-quic',
    '--disable-background-networking',
  ],
};
const CT: StudyOrder = {
  seed: 1,
  kind: 'ct',
  person: WANG,
  patientId: 'P1001',
  date: '20260311',
  time: '092415',
  institution: '云岭县医院',
  description: '胸部CT平扫',
  slices: 12,
  size: 128,
  charset: 'gb18030',
};
/** The same person, written another way at the hospital that will fetch. */
const DX: StudyOrder = {
  ...CT,
  seed: 2,
  kind: 'dx',
  patientId: 'C-5582',
  date: '20261120',
  description: '胸部正侧位',
  slices: 1,
  person: { ...WANG, name: 'Wang^Xiuying=王^秀瑛' },
  charset: 'utf8',
};

testNeeding(
  'chromium',
  'a doctor finds, is refused, records consent, fetches, compares, reads; the patient stops it; an index that is away is said',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'meridian-page-'));
    await promisify(execFile)(process.execPath, [join(repositoryFolder, 'node_modules/vite/bin/vite.js'), 'build', 'packages/web'], {
      cwd: repositoryFolder,
    });
    let network: Network<HospitalKey> | undefined;
    let browser: Browser | undefined;
    try {
      network = await openNetwork({ folder, hospitals: [HOSPITALS[0], HOSPITALS[2]], logLevel: 'silent' });
      const [a, c] = [network.hospital('a'), network.hospital('c')];
      await examine(a, CT);
      await examine(c, DX);
      await network.settle();
      browser = await chromium.launch(BROWSER);
      const page = await (await browser.newContext({ locale: 'en-GB', viewport: { width: 1280, height: 900 } })).newPage();
      page.setDefaultTimeout(15_000);
      const faults = watch(page);

      await page.goto(c.url);
      await find(page);
      const row = page.locator('.study').filter({ hasText: '2026-03-11' });
      await row.waitFor();
      expect(await page.locator('.completeness').innerText()).toContain('2 studies found. All 2 hospitals answered at');
      expect(await row.innerText()).toContain(`The patient has not shared images held at ${a.name}. Ask the patient.`);
      expect(await row.getByRole('button').count()).toBe(0);
      await expectAccessible(page);

      await page.getByRole('button', { name: 'Record consent' }).click();
      await page.getByRole('button', { name: 'Record', exact: true }).click();
      expect(await page.locator('.consent-form [role=alert]').innerText()).toBe('Say who records this.');
      await page.getByLabel('Recorded by').fill('Zhang');
      await page.getByLabel('The patient has agreed to this').check();
      await expectAccessible(page);
      await page.getByRole('button', { name: 'Record', exact: true }).click();

      await row.getByRole('button', { name: /^Fetch/ }).click();
      await row.getByText('Copied: 12 images, every one verified.').waitFor();
      await row.getByText('Copy held here').waitFor();
      await row.getByRole('button', { name: /^Open/ }).click();
      // The name is written another way here: compared before anything is opened.
      const dialog = page.getByRole('alertdialog');
      expect(await dialog.innerText()).toMatch(/王.*秀瑛[\s\S]*王.*秀英/);
      await expectAccessible(page);
      await dialog.getByRole('button', { name: 'Same person: open' }).click();
      await read(page, a);
      await expectAccessible(page);
      await page.goBack();
      await row.waitFor();

      await page.getByLabel('Language').selectOption('zh-CN');
      await page.getByLabel('主题').selectOption('dark');
      await page.getByRole('heading', { name: '授权' }).waitFor();
      await expectAccessible(page);
      await page.setViewportSize({ width: 320, height: 700 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
      await page.getByRole('button', { name: '停止授权' }).click();
      await page.getByRole('alertdialog').getByRole('button', { name: '停止授权' }).click();
      await page.getByText('已停止授权。他院不能再打开这些影像').waitFor();
      await row.getByText('患者已停止授权查看这些影像。').waitFor();
      await row.getByText('副本已锁定').waitFor();
      expect(await row.getByRole('button').count()).toBe(0);
      await expectAccessible(page);

      await network.stopIndex();
      await page.getByRole('button', { name: '重新查询' }).click();
      await page.getByText('索引暂时连不上。此列表只含本院保存的影像，可能还有未显示的检查。').waitFor();
      expect(await page.getByText('未找到影像检查').count()).toBe(0);

      expect(page.url()).toBe(`${c.url}/`);
      expect(await page.evaluate(() => JSON.stringify([Object.entries(localStorage), history.state]))).not.toContain(WANG.residentId);
      expect(faults).toEqual([]);
    } finally {
      await browser?.close();
      await network?.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
  180_000,
);

async function examine(hospital: Hospital<HospitalKey>, order: StudyOrder): Promise<void> {
  const statuses = await sendAll({ host: '127.0.0.1', port: hospital.dimsePort, callingAeTitle: 'CT1', calledAeTitle: hospital.aeTitle }, [
    ...generateStudy(order),
  ]);
  expect(new Set(statuses)).toEqual(new Set([0]));
}

/** A wrong digit first, then the right person, looked at twice; by keyboard alone. */
async function find(page: Page): Promise<void> {
  const field = page.getByLabel('Person id');
  await field.fill(`${WANG.residentId.slice(0, 16)}${(Number(WANG.residentId[16]) + 1) % 10}${WANG.residentId[17]}`);
  await page.keyboard.press('Enter');
  await page.getByText('The check digit does not match.').waitFor();
  await expectAccessible(page);
  await field.fill(WANG.residentId);
  await page.keyboard.press('Enter');
  await page.getByText('1956-04-12').waitFor();
  expect(await page.locator('main').innerText()).not.toContain(WANG.residentId);
  await page.keyboard.press('Enter');
}

async function read(page: Page, holder: Hospital<HospitalKey>): Promise<void> {
  const bar = page.locator('.provenance');
  await bar.getByText(`COPY · ${holder.name}`).waitFor();
  await bar.getByText('C-5582').waitFor();
  expect(await bar.innerText()).toContain('Preview JPEG – not for diagnosis');
  const picture = page.locator('.stack-frame img');
  await picture.waitFor();
  await page.waitForFunction(() => (document.querySelector<HTMLImageElement>('.stack-frame img')?.naturalWidth ?? 0) > 0);
  await page.locator('.stack-frame').focus();
  await page.keyboard.press('Home');
  await page.getByText(/^Image 1 of/).waitFor();
  const first = await picture.getAttribute('src');
  await page.locator('.stack-frame').hover();
  await page.mouse.wheel(0, 130);
  await page.getByText(/^Image 3 of/).waitFor();
  expect(await picture.getAttribute('src')).not.toBe(first);
}

/** Errors of script and every breach of the content security policy. */
function watch(page: Page): string[] {
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (request.url().includes(WANG.residentId)) faults.push('a person id in an address');
  });
  return faults;
}

/** axe-core finds nothing, by WCAG 2.2 A and AA and its best practices. */
async function expectAccessible(page: Page): Promise<void> {
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { axe: tool } = window as unknown as {
      axe: {
        run(where: Document, options: object): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
      };
    };
    const result = await tool.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
    return result.violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 120)} ${node.failureSummary}`).join(' | ')}`,
    );
  });
  expect(violations).toEqual([]);
}
