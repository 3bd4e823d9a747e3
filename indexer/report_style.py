"""The style sheet of a report's page: light and dark, desktop, phone and paper."""

from __future__ import annotations

from typing import Final

_COLOURS: Final = """
:root {
  color-scheme: light dark;
  --ground: #f8f7f4; --paper: #fff; --well: #efede8; --ink: #1d1c1a; --soft: #625e57; --line: #e2dfd8;
  --rule: #b9b4aa;
  --accent: #0f6b5c; --wash: #e3f0ec; --second: #b4641b; --bad: #a12a1c; --bad-wash: #fbeae6; --other: #bdb8ae;
  --hue0: #0072b2; --hue1: #d55e00; --hue2: #008f68; --hue3: #b8578f;
  --hue4: #b87a00; --hue5: #3a9bd0; --hue6: #1d1c1a; --hue7: #8d8600;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #151516; --paper: #1e1e20; --well: #28282b; --ink: #eceae6; --soft: #a9a59e; --line: #343438;
    --rule: #5c5b5f; --accent: #63c7b2; --wash: #1b2f2b; --second: #e0a066; --bad: #f2988a; --bad-wash: #35201c;
    --other: #55545a;
    --hue0: #3b9fe0; --hue1: #f07a2a; --hue2: #1fb68a; --hue3: #e08fc0;
    --hue4: #e8a317; --hue5: #8fd0f5; --hue6: #eceae6; --hue7: #d8cf3a;
  }
}
@media print { :root { color-scheme: light; --ground: #fff; } }
"""

_FRAME: Final = """
*, ::before, ::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 16px; }
body {
  margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif;
}
h1, h2, h3, p, dl, dd, ol, ul, figure, table, pre { margin: 0; padding: 0; }
ol, ul { list-style: none; }
h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -.016em; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; letter-spacing: -.008em; margin-bottom: 8px; }
h3 { font-size: .9375rem; line-height: 1.3; margin: 28px 0 8px; }
section > p { max-width: 46rem; margin-bottom: 16px; }
section > p + p { margin-top: -6px; }
a { color: var(--accent); text-underline-offset: .18em; }
em { font-style: italic; }
code, pre { font: .8667em/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { padding: 12px 16px; border-radius: 8px; background: var(--well); white-space: pre-wrap; margin-bottom: 16px; }
abbr { text-decoration: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
main:focus { outline: none; }
.soft, .none { color: var(--soft); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 8px; top: -80px; z-index: 20; padding: 8px 14px; border-radius: 8px;
  background: var(--accent); color: var(--paper); }
.skip:focus { top: 8px; }

header, .frame { max-width: 1240px; margin: 0 auto; padding: 0 clamp(16px, 3.2vw, 40px); }
header { padding-top: 28px; }
.brand { font-weight: 650; font-size: .875rem; color: var(--accent); margin-bottom: 14px; }
.brand span { color: var(--soft); font-weight: 400; margin-left: 6px; }
.protocol { color: var(--soft); max-width: 52rem; margin-top: 6px; font-size: 1rem; }
.banner { margin-top: 20px; padding: 14px 18px; border: 2px solid var(--bad); border-left-width: 10px;
  border-radius: 8px; background: var(--bad-wash); }
.banner strong { color: var(--bad); font-size: 1.125rem; display: block; }
.banner ul { list-style: disc; padding-left: 1.2em; margin-top: 4px; }
.leading { display: grid; grid-template-columns: 2fr 1fr 1fr 1fr; margin-top: 24px;
  border-block: 1px solid var(--line); }
.leading div { padding: 14px 20px 14px 0; min-width: 0; }
.leading div + div { border-left: 1px solid var(--line); padding-left: 20px; }
.leading dt, .leading span { color: var(--soft); font-size: .8125rem; line-height: 1.35; }
.leading dd { line-height: 1.35; }
.leading dd strong { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600;
  letter-spacing: -.015em; }
.leading div:first-child dd strong { font-size: 2.25rem; line-height: 1.15; color: var(--accent); }
.leading, table, .n, .v, .facts, svg text, .facts-list { font-variant-numeric: tabular-nums; }

.frame { display: grid; grid-template-columns: 150px minmax(0, 1fr); gap: 0 40px; align-items: start;
  padding-bottom: 64px; }
nav { position: sticky; top: 0; padding-top: 40px; font-size: .8125rem; }
nav a { display: block; padding: 4px 0; color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
main { min-width: 0; }
section { padding-top: 40px; }
.flag { display: inline-block; padding: 0 7px; border-radius: 4px; background: var(--bad-wash); color: var(--bad);
  box-shadow: inset 0 0 0 1px var(--bad); font-size: .75rem; line-height: 1.55; font-weight: 600;
  white-space: nowrap; }
.leading .flag { color: var(--bad); font-size: .75rem; }
"""

_WORDS: Final = """
.cards { display: grid; grid-template-columns: 1fr 1fr; gap: 0 48px; }
.cards h3 { margin-top: 8px; }
.cards > div { margin-bottom: 12px; }
.facts-list { border-bottom: 1px solid var(--line); font-size: .875rem; }
.facts-list div { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); gap: 12px; padding: 5px 0;
  border-top: 1px solid var(--line); }
.facts-list dt { color: var(--soft); }
.facts-list.wide div { grid-template-columns: 15rem minmax(0, 1fr); }
.facts-list.wide dt { color: var(--ink); }
.facts-list code { font-size: .75rem; }
.plain { font-size: .8125rem; }
.plain li { padding: 3px 0; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--accent); font-size: .875rem; padding: 4px 0; width: fit-content; }
details > :not(summary) { margin-top: 8px; }

.scroll { overflow-x: auto; position: relative; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.35; }
th, td { text-align: right; padding: 6px 14px; border-top: 1px solid var(--line); white-space: nowrap;
  font-weight: 400; }
thead th { border-top: 0; color: var(--soft); font-size: .8125rem; vertical-align: bottom; }
thead tr { border-bottom: 1px solid var(--rule); }
tbody tr:last-child > * { border-bottom: 1px solid var(--line); }
.figures { width: 100%; }
.figures th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--ground);
  font-weight: 500; max-width: 14rem; min-width: 7rem; white-space: normal; overflow-wrap: break-word; }
.figures td:last-child, .figures th:last-child { padding-right: 0; }
.figures .lead { font-weight: 650; font-size: .9375rem; }
.figures .gain { font-weight: 600; }
.short { margin-top: 4px; }
.short th, .short td { padding: 2px 12px; }

.key { color: var(--soft); font-size: .8125rem; margin-top: 10px; }
p.key { margin-bottom: 10px; }
p.note { font-size: .8125rem; color: var(--soft); }
section > p.note { margin: 10px 0 0; }
.key .mark + .mark, .key .mark:not(:first-child) { margin-left: 18px; }
.swatch { display: inline-block; width: 12px; height: 12px; margin: 0 6px 0 0; vertical-align: -1px; }
.swatch:not(:first-child) { margin-left: 18px; }
.swatch.dot { border-radius: 50%; background: var(--accent); transform: scale(.8); }
.swatch.ring { border-radius: 50%; border: 2px solid var(--second); transform: scale(.8); }
.swatch.line { height: 2px; width: 18px; vertical-align: 4px; background: var(--accent); }
.swatch.block { background: color-mix(in srgb, var(--accent) 55%, var(--ground)); }
.swatch.gap { background: color-mix(in srgb, var(--bad) 22%, transparent); border: 1px dashed var(--bad); }
"""

_SQUARE: Final = " stroke-linecap: square; stroke-width: 6;"  # every second colour, so that shape tells it too

_CHARTS: Final = """
svg text { font-size: 12px; fill: var(--soft); }
svg .value { fill: var(--ink); font-weight: 550; paint-order: stroke; stroke: var(--ground); stroke-width: 3px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .tick { stroke: var(--rule); stroke-width: 1; }
svg .line { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke;
  stroke-linejoin: round; }
svg .whisker { stroke: var(--accent); stroke-width: 2; }
svg .dot { fill: var(--accent); }
svg circle.frozen { fill: var(--ground); stroke: var(--second); stroke-width: 2; }
svg line.frozen { stroke: var(--second); }
svg .bar { fill: color-mix(in srgb, var(--accent) 55%, var(--ground)); }
svg .faint { fill: var(--rule); }
svg .gap { fill: color-mix(in srgb, var(--bad) 22%, transparent); stroke: var(--bad); stroke-width: 1;
  stroke-dasharray: 2 2; }
svg .diagonal { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart { padding: 20px 18px 0 44px; }
.chart.intervals { padding-left: 136px; padding-top: 16px; }
.chart svg { display: block; width: 100%; overflow: visible; }
.chart.histogram { max-width: 560px; padding: 8px 8px 0; margin-bottom: 0; }
.chart.reliability { max-width: 440px; }
figure:has(> .histogram) { margin-bottom: 24px; }
.side-by-side { display: grid; grid-template-columns: minmax(0, 460px) auto; gap: 24px 56px; align-items: start;
  justify-content: start; }

.bars { columns: 2; column-gap: 48px; font-size: .8125rem; }
.bars li { display: grid; grid-template-columns: minmax(0, 14fr) 2.4rem minmax(0, 9fr) 2.7rem; gap: 10px;
  align-items: center;
  height: 25px; break-inside: avoid; }
.of { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars .n { color: var(--soft); text-align: right; }
.bars .v { text-align: right; }
.bars .bar { position: relative; height: 12px; background: var(--well); border-radius: 2px; }
.bars .bar i { position: absolute; inset: 0 auto 0 0;
  background: color-mix(in srgb, var(--accent) 62%, var(--ground)); border-radius: 2px; }
.bars .bar::after { content: ""; position: absolute; top: -3px; bottom: -3px; left: var(--mean); width: 1.5px;
  background: var(--second); }

.mapped { display: grid; grid-template-columns: minmax(0, 620px) minmax(160px, 1fr); gap: 24px 32px;
  align-items: start; }
.map { display: block; width: 100%; background: var(--paper); border-radius: 8px;
  box-shadow: inset 0 0 0 1px var(--line); }
.points { fill: none; stroke-width: 7; stroke-linecap: round; stroke-opacity: .82; }
.points.other { stroke: var(--other); stroke-width: 5; }
.legend { display: grid; gap: 8px; font-size: .8125rem; line-height: 1.35; }
.legend li { display: grid; grid-template-columns: 12px minmax(0, 1fr) auto; gap: 10px; align-items: baseline; }
.legend .n, .confused .n { color: var(--soft); }
.hue { width: 11px; height: 11px; border-radius: 50%; }
.hue.other { background: var(--other); }
""" + "\n".join(
    f".points.hue{place} {{ stroke: var(--hue{place});{_SQUARE if place % 2 else ''} }}\n"
    f".hue.hue{place} {{ background: var(--hue{place});{' border-radius: 0;' if place % 2 else ''} }}"
    for place in range(8)
)

_PICTURES: Final = """
.picture { aspect-ratio: 1; border-radius: 6px; background: var(--well); overflow: hidden; display: grid;
  place-items: center; }
.picture img { display: block; width: 100%; height: 100%; object-fit: contain; min-height: 0; font-size: .75rem;
  color: var(--soft); }
.picture.missing { padding: 8px; color: var(--soft); font-size: .75rem; line-height: 1.35; text-align: center;
  border: 1px dashed var(--rule); overflow: hidden; }
.tile { min-width: 0; font-size: .8125rem; line-height: 1.35; }
.tile figcaption { padding-top: 6px; display: grid; gap: 1px; }
.facts { display: flex; justify-content: space-between; gap: 6px; color: var(--soft); font-size: .75rem;
  white-space: nowrap; }
.facts strong { color: var(--ink); }
.name, .crumbs, .id { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; line-clamp: 2;
  overflow: hidden; }
.name { font-weight: 550; }
.crumbs { color: var(--soft); font-size: .75rem; }
.id { color: var(--soft); font-size: .6875rem; -webkit-line-clamp: 5; line-clamp: 5; }
.mark { font-weight: 700; }
.mark.wrong { color: var(--bad); }
.mark.right { color: var(--accent); }
.tile.wrong .picture, .tile.right .picture { position: relative; }
.tile.wrong .picture::after, .tile.right .picture::after { content: ""; position: absolute; inset: 0;
  border-radius: inherit;
  border: 3px dashed var(--bad); pointer-events: none; }
.tile.right .picture::after { border: 3px solid var(--accent); }

.failures { border-top: 1px solid var(--line); }
details .failures, details .pairs { margin-top: 0; }
.failure { display: grid; grid-template-columns: minmax(0, 1fr) 4px repeat(5, minmax(0, 1fr)) 4px minmax(0, 1fr);
  gap: 12px; padding: 16px 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.got { display: grid; grid-column: 3 / 8; grid-template-columns: subgrid; }
.best { grid-column: 9; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 20px 14px; }
.tiles li { break-inside: avoid; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 24px 32px; }
.pair { break-inside: avoid; border-top: 1px solid var(--line); padding-top: 10px; min-width: 0; }
.pair > .facts { align-items: baseline; }
.pair > .crumbs { margin: 2px 0 8px; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
details > .pairs { margin-top: 16px; }
.confused { columns: 2; column-gap: 48px; font-size: .8125rem; line-height: 1.35; }
.confused li { display: flex; justify-content: space-between; gap: 16px; break-inside: avoid; padding: 5px 0;
  border-top: 1px solid var(--line); }
.pairing { display: grid; grid-template-columns: minmax(0, 1fr) auto minmax(0, 1fr); gap: 10px; flex: 1;
  min-width: 0; }
.arrow { color: var(--soft); }
"""

_SMALL: Final = """
@media (max-width: 1000px) {
  .frame { grid-template-columns: minmax(0, 1fr); }
  nav { position: static; padding-top: 16px; }
  nav ol { display: flex; flex-wrap: wrap; gap: 0 18px; }
  .cards { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 720px) {
  h1 { font-size: 1.375rem; }
  header { padding-top: 18px; }
  section { padding-top: 32px; }
  .leading { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .leading div { padding: 10px 8px 10px 0; }
  .leading div:first-child { grid-column: 1 / -1; border-bottom: 1px solid var(--line); }
  .leading div:nth-child(2) { border-left: 0; padding-left: 0; }
  .leading div + div { padding-left: 12px; }
  .leading dd strong { font-size: 1.1875rem; }
  .facts-list div { grid-template-columns: 7.5rem minmax(0, 1fr); }
  .facts-list.wide div { grid-template-columns: minmax(0, 1fr); gap: 0; }
  th, td { padding: 6px 10px; }
  g.wide { display: none; }
  .chart { padding-left: 30px; padding-right: 14px; }
  .chart.intervals { padding-left: 112px; }
  .bars, .confused { columns: 1; }
  .mapped, .side-by-side { grid-template-columns: minmax(0, 1fr); }
  .failure { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; }
  .got { grid-column: 1 / -1; grid-row: 2; grid-template-columns: subgrid; gap: 12px; }
  .best { grid-column: 3; grid-row: 1; }
  .tiles { grid-template-columns: repeat(auto-fill, minmax(98px, 1fr)); }
}
@media print {
  body { font-size: 10pt; }
  nav, .skip, summary { display: none; }
  .frame { display: block; }
  section { padding-top: 20pt; }
  h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  @page { margin: 14mm; }
}
"""

STYLE: Final = _COLOURS + _FRAME + _WORDS + _CHARTS + _PICTURES + _SMALL
