import { mkdtempSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { HOSPITALS, WANG } from './demo/cast.ts';
import { tellStory } from './demo/story.ts';
import { openNetwork } from './network.ts';
const folder = mkdtempSync('/tmp/pages/net-');
const network = await openNetwork({ folder, hospitals: HOSPITALS, logLevel: 'silent' });
const teller = { chapter: console.log, say: console.log, progress: () => {}, } as never;
try {
  await tellStory(network, teller);
  const c = network.hospital('c');
  await c.client.recordConsent({ personId: WANG.residentId });
  await network.settle();
  const b = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--no-sandbox'] });
  for (const [name, width, height, locale, colorScheme] of [['wide', 1280, 900, 'en', 'light'], ['narrow', 360, 780, 'zh-CN', 'dark']] as const) {
    const p = await (await b.newContext({ viewport: { width, height }, locale, colorScheme })).newPage();
    p.setDefaultTimeout(10000);
    await p.goto(c.url);
    await p.locator('form input').fill(WANG.residentId); await p.keyboard.press('Enter'); await p.waitForTimeout(300); await p.keyboard.press('Enter');
    await p.locator('.study').first().waitFor(); await p.waitForTimeout(500);
    await p.screenshot({ path: `/tmp/pages/shots/real-${name}-history.png`, fullPage: true });
    const row = p.locator('.study').filter({ hasText: '2026-03-11' });
    const button = row.locator('.study-do button').first();
    if (await button.count()) { await button.click(); await p.waitForTimeout(1500); }
    await p.screenshot({ path: `/tmp/pages/shots/real-${name}-after.png`, fullPage: true });
    const open = p.locator('.study').filter({ hasText: '2026-11-20' }).locator('.study-do button').first();
    if (await open.count()) { await open.click(); await p.waitForTimeout(2500); await p.screenshot({ path: `/tmp/pages/shots/real-${name}-viewer.png` }); }
  }
  await b.close();
} catch (e) { console.log(e); } finally { await network.close(); }
