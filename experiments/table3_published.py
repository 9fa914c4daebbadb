"""Table 3: what could be found in public of the paper's own rivals, and our row on the same split where it can be run.

Command: python -m experiments.table3_published --scale full --source FOLDER
    --report experiments/results/table3_published_full.json
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: seconds; full: not measured.
Expected: full: within 0.02 of the published central similarity row on the same lists.
Paper: best of six on ImageNet; DUDH and JLDSH better on NUS-WIDE and COCO. Neither its cells nor the tables of the five
    others (ADFSDH, IDPSH, DFHN, JLDSH, DUDH) could be found, nor their losses in full.
Status: smoke: run by the tests. cpu: bundled sample, no published row to compare with. full: not run.
"""

from dataclasses import replace
from typing import Any

from experiments import learning
from experiments.learning import BUNDLED, FULL, Learning, Study
from experiments.running import Scale, begin, command_line, finish

# README of the official CSQ code (yuanli2333/Hadamard-Matrix-for-hashing), ResNet50, 16, 32 and 64 bits.
OFFICIAL = {
    "imagenet100": ("mAP@1000", (0.851, 0.865, 0.873)),
    "coco80": ("mAP@5000", (0.796, 0.838, 0.861)),
    "nuswide21-m": ("mAP@5000", (0.810, 0.825, 0.839)),
}
# DeepHash-pytorch (swuxyj), CSQ with ResNet50, 64 bits.
RERUN = {"imagenet100": 0.881, "coco80": 0.883, "nuswide21-m": 0.844}
MISSING = ("ADFSDH", "IDPSH", "DFHN", "JLDSH", "DUDH")


SCALES: dict[Scale, Study] = {
    "smoke": Study(learn=Learning(epochs=2)),
    "cpu": Study(learn=BUNDLED),
    "full": Study(learn=replace(FULL, seeds=3)),
}


def main(config: Study) -> dict[str, Any]:
    """Run our row and put the published figures beside it."""
    run = begin("table3_published", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs)
    cells = {bits: learning.run_cell(prepared, "csq", bits) for bits in config.learn.bits}
    ours = {str(bits): learning.spread([run.test for run in cell]) for bits, cell in cells.items()}
    metric, row = OFFICIAL.get(config.learn.dataset, (None, None))
    published = {
        "metric": metric,
        "csq_official": dict(zip(("16", "32", "64"), row, strict=True)) if row else None,
        "csq_rerun_64_bits": RERUN.get(config.learn.dataset),
        "not_found": MISSING,
    }
    for bits, cell in ours.items():
        beside = "none published" if row is None else published["csq_official"].get(bits)
        print(f"{config.learn.dataset} {bits} bits: {cell['mean']:.4f}, published: {beside}")
    return finish(run, {**learning.about(prepared), "map": ours, "published": published})


if __name__ == "__main__":
    main(command_line(SCALES))
