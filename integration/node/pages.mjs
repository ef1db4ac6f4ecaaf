// Checks pages of the console in both themes and two widths. It saves a picture of
// each, runs axe-core, and measures whether a page is wider than the screen.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const widths = [1280, 390];

// look returns the faults of the pages, one line for each fault. The parameter pages
// maps the names of pictures to URLs.
export async function look(page, out, who, pages) {
  const faults = [];
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of widths) {
      await page.setViewportSize({ width, height: 900 });
      for (const [name, url] of Object.entries(pages)) {
        await page.goto(url);
        await page.screenshot({ path: join(out, `${who}-${name}-${scheme}-${width}.png`), fullPage: true });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) {
          faults.push(`${who} ${name} ${scheme} ${width}: ${wide} px wider than the screen`);
        }
        await page.evaluate(axe); // runs in spite of the Content-Security-Policy, which does not apply to the debugger
        const { violations } = await page.evaluate(() => axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }));
        for (const v of violations.filter((v) => ['serious', 'critical'].includes(v.impact))) {
          faults.push(`${who} ${name} ${scheme} ${width}: ${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).slice(0, 3).join(' | ')}`);
        }
      }
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: 'light' });
  return faults;
}
