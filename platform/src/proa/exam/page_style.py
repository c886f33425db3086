"""The style of `verdict.html`."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --back: #fbfaf8; --card: #fff; --ink: #23272b; --soft: #6b7278;
  --line: #e5e2dc; --good: #2d7d5a; --bad: #b4443c; --maybe: #a5761d; --mark: #3d6ea8;
  --good-back: #e9f3ee; --bad-back: #f9ebe9; --maybe-back: #f8f1e1; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --card: #1d2024; --ink: #e3e5e7;
  --soft: #969da5; --line: #2f343a; --good: #66bd94; --bad: #e58078; --maybe: #dcb15c;
  --mark: #7fb0e6; --good-back: #1b2b24; --bad-back: #33201f; --maybe-back: #2e281a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; font-weight: 600; margin: .1rem 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.02rem; font-weight: 600; margin: 0 0 .6rem; }
h3 { font-size: .82rem; font-weight: 600; margin: 0 0 .4rem; color: var(--soft); }
small, .note, .over { color: var(--soft); font-size: .86rem; font-weight: 400; }
p { margin: .2rem 0; }
section { margin-top: 2.6rem; }
header { border-left: 4px solid var(--tone); padding: .2rem 0 .3rem 1.2rem; }
header.pass { --tone: var(--good); --tone-back: var(--good-back); }
header.fail { --tone: var(--bad); --tone-back: var(--bad-back); }
header.inconclusive { --tone: var(--maybe); --tone-back: var(--maybe-back); }
.badge { font-size: .95rem; font-weight: 600; vertical-align: .28em; margin-left: .4rem;
  padding: .18rem .7rem; border-radius: 1rem; color: var(--tone); background: var(--tone-back); }
.why { font-size: 1.05rem; max-width: 52rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .8rem; }
th, td { padding: .42rem .7rem .42rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.checks { table-layout: fixed; } .checks th.name { width: 26%; } .checks th.n { width: 6.5rem; }
.checks .n { padding-right: 1.6rem; } .integrity .n { display: none; }
tbody tr:last-child td { border-bottom: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { overflow-wrap: anywhere; }
.dot { width: 1.2rem; } .dot i, .side i { display: inline-block; width: .6rem; height: .6rem;
  border-radius: 50%; background: var(--soft); }
.pass .dot i, .side.pass i { background: var(--good); }
.fail .dot i, .side.fail i { background: var(--bad); }
.inconclusive .dot i { background: var(--maybe); }
tr.fail .name { color: var(--bad); font-weight: 600; }
tr.inconclusive .name { color: var(--maybe); font-weight: 600; }
.reading { color: var(--soft); font-size: .86rem; overflow-wrap: anywhere; }
.bar { display: block; margin: .12rem 0 .2rem; max-width: 100%; }
.bar .axis { stroke: var(--line); } .bar .zero { stroke: var(--soft); }
.bar .margin { stroke: var(--maybe); stroke-dasharray: 2 2; }
.bar rect { fill: var(--mark); opacity: .35; } .bar circle { fill: var(--mark); }
tr.fail .bar rect, tr.fail .bar circle { fill: var(--bad); }
.suites .n { padding-right: 1.6rem; } .meter { width: 38%; }
.meter div { position: relative; height: 1.1rem; padding-top: .3rem; }
.meter i { display: block; height: .5rem; border-radius: .25rem; background: var(--mark);
  opacity: .55; min-width: 2px; }
.meter b { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: var(--ink); opacity: .75; }
details > summary { cursor: pointer; padding: .3rem 0; color: var(--soft); }
.task { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .5rem 1rem .9rem; margin: .7rem 0; }
.task summary { display: flex; gap: .9rem; align-items: baseline; flex-wrap: wrap; }
.task .id { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
.task .regressed { color: var(--bad); margin-left: auto; }
.question { margin: .2rem 0 .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; }
.side { min-width: 0; border-top: 2px solid var(--line); padding-top: .5rem; }
.side.fail { border-color: var(--bad); } .side.pass { border-color: var(--good); }
.side h3 i { margin-right: .5rem; } .side h3 small { margin-left: .6rem; }
.answer { white-space: pre-wrap; overflow-wrap: anywhere; }
.none { color: var(--bad); overflow-wrap: anywhere; }
.cites { color: var(--soft); font-size: .84rem; overflow-wrap: anywhere; }
.side ul { margin: .5rem 0 0; padding-left: 1.1rem; color: var(--bad); font-size: .88rem;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 11rem 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.digest { font-family: ui-monospace, monospace; font-size: .82rem; }
.hidden { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
@media (max-width: 44rem) { main { padding: 1.4rem 1rem 3rem; } h1 { font-size: 1.5rem; }
  .sides, dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
  .checks thead, .suites .meter { display: none; }
  .checks, .checks tbody { display: block; }
  .checks tr { display: grid; grid-template-columns: 1.2rem 1fr auto auto; padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  .checks td { border: 0; padding: 0 0 0 .6rem; } .checks .dot, .checks .name { padding-left: 0; }
  .checks .n { padding: 0 0 0 .8rem; } .checks .reading { grid-column: 2 / -1; padding-left: 0; }
  .rows { display: block; overflow-x: auto; } }
@media print { body { background: #fff; } .task { break-inside: avoid; } }
"""
