"""Writes docs/performance.md from the reports of `experiments.bench_paillier`, the only source of its figures.

python -m experiments.bench_paillier --table experiments/results/bench_paillier_cpu.json
"""

import json
from pathlib import Path
from typing import Any

OPERATIONS = ("encrypt by owner", "encrypt", "decrypt", "add")
RATIOS = ("decrypt_ratio_vs_gmpy2", "encrypt_ratio_vs_gmpy2", "decrypt_ratio_vs_phe", "encrypt_ratio_vs_phe")
COLUMNS = ("scheme", "build s", "trapdoor ms", "server ms", "open and rank ms", "query ms", "index B/code", "reply kB")
GPU_REPORT = "bench_paillier_gpu.json"
GPU_OPTIONS = "--clock wall --no-pin --search-engines jax --counts 100000 1000000 --curve 64 512 2048 8192"

OPERATION_NOTE = """\
`encrypt by owner` uses the secret key: a comb over a generator of the blinders, within 2^-64 of the textbook's
distribution. `encrypt` is what anyone with the public key pays, r^n mod n^2 included. Batches: 512 for the engine `jax`
(256 for `encrypt`), 64 (16) for `gmpy2`, 16 for python-paillier. LightPHE runs on a key of its own, the others
share one."""

QUERY_NOTE = """\
`*` run on fewer codes (`codes_run` in the report) and scaled linearly. `+n`: tables of n query bits per product.
A query is trapdoor, server, decryption, decoding and the ranking of the best 100; the blinders that re-randomise the
answer come from a pool filled ahead, and what filling it costs the owner is `pool_refill_by_owner_s` in the report.
`integer` is the paper's Eq. 8: it orders by code difference, not by Hamming distance. TenSEAL runs on parameters of its
own (4096 slots, 34-bit plaintext modulus), the same in every table."""

BFV_NOTE = """\
Below 1 in the query column, BFV is that much faster: lattice arithmetic costs microseconds where Paillier costs
milliseconds, and no arrangement of Paillier changes that. Above 1 in the byte columns, Paillier is that much smaller:
its ciphertext is twice its plaintext. Choose Paillier for the size of index and reply and an assumption studied since
1999; choose BFV for speed. The ordinary BFV of TenSEAL neither re-randomises nor floods its noise before it answers, as
the Paillier side does; a deployment would have to add that."""


def write_page(report_path: Path, page_path: Path) -> None:
    report = json.loads(report_path.read_text())
    gpu_path = report_path.with_name(GPU_REPORT)
    gpu = json.loads(gpu_path.read_text()) if gpu_path.exists() else None
    parts = [
        heading(report_path, report),
        operation_tables(report),
        query_tables(report),
        verdict(report),
        predictions(report),
        accelerator(gpu),
        reading(report),
    ]
    page_path.write_text("\n\n".join(parts) + "\n")


def heading(path: Path, report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    unit = "CPU seconds of one pinned core" if machine["clock"] == "cpu" else "wall seconds"
    name = f"experiments/results/{path.name}"
    check, largest = "all exact" if report["exact"] else "NOT all exact", max(report["config"]["counts"])
    return f"""# Performance

Made by `python -m experiments.bench_paillier --report {name}` on {machine["date"]}
and written by `--table {name}`; do not edit the figures by hand.

Machine: {machine["processor"]}{", AVX-512" if machine["avx512"] else ""}, {machine["system"]}, Python
{machine["python"]}; {versions}.
Figures are {unit}, medians of {report["config"]["rounds"]} interleaved round(s), compilation left out. Load average
{machine["load_at_start"][0]:.1f} at the start and {machine["load_at_end"][0]:.1f} at the end: trust the ratios of one
table, not the digits. Every distance was checked against a popcount of Python integers: **{check}**.
Peak memory of the process, {largest:,}-code queries included: {report["peak_rss_mb"]:,.0f} MB."""


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def operation_tables(report: dict[str, Any]) -> str:
    parts = ["## Operations, milliseconds each"]
    for size, contenders in report["operations"].items():
        rows = [[name, *(number(cells.get(o)) for o in OPERATIONS)] for name, cells in contenders.items()]
        parts.append(f"{size}-bit n:\n\n" + table(["", *OPERATIONS], rows))
    sizes = list(report["operations"])
    rows = [[f"`{name}`", *(number(report[name].get(size)) for size in sizes)] for name in RATIOS]
    parts += [table(["ratio", *(f"{size} bits" for size in sizes)], rows), OPERATION_NOTE]
    return "\n\n".join(parts)


def query_tables(report: dict[str, Any]) -> str:
    parts = [f"## One private query, {report['config']['bits']}-bit codes"]
    for size, count in sorted({(row["modulus_bits"], row["count"]) for row in report["queries"]}):
        chosen = [row for row in report["queries"] if (row["modulus_bits"], row["count"]) == (size, count)]
        parts.append(
            f"{count:,} codes, {size}-bit n:\n\n" + table(["", *COLUMNS], [query_cells(row) for row in chosen])
        )
    return "\n\n".join([*parts, QUERY_NOTE])


def query_cells(row: dict[str, Any]) -> list[str]:
    if "query_s" not in row:
        return [row["contender"], row.get("note", "-"), *([""] * (len(COLUMNS) - 1))]
    milliseconds = [number(1000 * row[f"{stage}_s"]) for stage in ("trapdoor", "score", "open")]
    return [
        row["contender"] + (" *" if row.get("extrapolated") else ""),
        scheme_name(row),
        number(row["build_s"]),
        *milliseconds,
        f"**{number(1000 * row['query_s'])}**",
        number(row["index_bytes"] / row["count"]),
        number(row["reply_bytes"] / 1000),
    ]


def scheme_name(row: dict[str, Any]) -> str:
    base = f", base {row['base']}" if row["scheme"] == "packed" and "base" in row else ""
    return row["scheme"] + base + (f" +{row['tables']}" if row.get("tables") else "")


def verdict(report: dict[str, Any]) -> str:
    """Where BFV wins and where Paillier does, in the figures of this run."""
    largest = max(report["config"]["counts"])
    title = f"## Against BFV, plainly: {largest:,} codes, same function, same leak"
    first, rows = f"jcbir {report['config']['search_engines'][0]}", []
    for scheme, sizes in report[f"query_ratio_vs_tenseal_{largest // 1000}k"].items():
        for size, ratio in sizes.items():
            ours, theirs = (quickest(report, name, scheme, int(size), largest) for name in (first, "TenSEAL BFV"))
            bytes_ratios = [times(theirs[name] / ours[name]) for name in ("index_bytes", "reply_bytes")]
            rows.append([scheme, f"{size} bits", times(ratio), *bytes_ratios])
    if not rows:
        return f"{title}\n\nTenSEAL: not installed in this run."
    header = ["scheme", "n", "query, BFV / ours", "index bytes, BFV / ours", "reply bytes, BFV / ours"]
    return f"{title}\n\n{table(header, rows)}\n\n{BFV_NOTE}"


def quickest(report, contender: str, scheme: str, size: int, count: int) -> dict[str, Any]:
    wanted = (contender, scheme, size, count)
    rows = [r for r in report["queries"] if (r["contender"], r["scheme"], r["modulus_bits"], r["count"]) == wanted]
    return min(rows, key=lambda row: row["query_s"])


def predictions(report: dict[str, Any]) -> str:
    rows = []
    for row in report["queries"]:
        if "prediction_error" in row:
            error = row["prediction_error"]
            cells = [row["contender"], scheme_name(row), str(row["modulus_bits"]), f"{row['count']:,}"]
            rows.append([*cells, f"{error['build']:+.0%}", f"{error['query']:+.0%}"])
    note = "Prediction over measurement, less one, from a calibration of about two seconds just before the rounds."
    return f"## `cost()` against the clock\n\n{table(['', 'scheme', 'n', 'codes', 'build', 'query'], rows)}\n\n{note}"


def accelerator(gpu: dict[str, Any] | None) -> str:
    if gpu is None:
        return "## GPU\n\n" + table(["device", "result"], [["any", "not measured"]])
    exact = "all exact" if gpu["exact"] else "NOT all exact"
    host = f"{gpu['machine']['processor']}, {gpu['machine']['cores_used']} cores"
    parts = [
        f"""## GPU: {gpu["machine"]["device"]}

The same command there, on {gpu["machine"]["date"]}, with
`{GPU_OPTIONS}`.
Wall seconds, host included ({host}, shared with other work: load average
{gpu["machine"]["load_at_start"][0]:.0f} at the start), compilation left out. Queries by the engine `jax` alone.
Every distance checked: **{exact}**. `gmpy2` and python-paillier used one core of that host."""
    ]
    for size, contenders in gpu["operations"].items():
        rows = [[name, *(number(cells.get(o)) for o in OPERATIONS)] for name, cells in contenders.items()]
        parts.append(f"{size}-bit n, milliseconds each:\n\n" + table(["", *OPERATIONS], rows))
    if "curve" in gpu:
        header = ["batch", *(f"{o}, {size} bits" for size in gpu["curve"] for o in ("encrypt by owner", "decrypt"))]
        counts = next(iter(gpu["curve"].values()))
        rows = [
            [f"{int(n):,}", *(number(c[n][o]) for c in gpu["curve"].values() for o in ("encrypt by owner", "decrypt"))]
            for n in counts
        ]
        parts.append("By batch size, milliseconds each, conversion of rows included:\n\n" + table(header, rows))
    header = ["scheme", "n", "codes", *COLUMNS[1:]]
    rows = []
    for row in (r for r in gpu["queries"] if "query_s" in r):
        _, scheme, *cells = query_cells(row)
        star = " *" if row.get("extrapolated") else ""
        rows.append([scheme + star, str(row["modulus_bits"]), f"{row['count']:,}", *cells])
    return "\n\n".join([*parts, table(header, rows)])


def reading(report: dict[str, Any]) -> str:
    peers = report["peers"]
    shown = peers if isinstance(peers, str) else ", ".join(f"{name}: {state}" for name, state in peers.items())
    return f"""## How to read this

Peers: {shown}. Nothing here is constant time and nothing has been audited. `packed`
tells the key holder where codes differ, `bitsliced` only how far apart they are, at the price of showing the server the
masked query: [ranking](ranking.md) has the table."""


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(value: float) -> str:
    return f"{value:.3g}x"
