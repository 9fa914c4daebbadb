"""The page on other people's backbones does what it says."""


def test_its_program_is_short_and_separates(run_page):
    names = run_page("bring-your-own-backbone.md")
    (program,) = names["blocks"]
    assert len([line for line in program.splitlines() if line.strip()]) <= 32
    distances = names["distances"]
    within = max(distances[:8, :8].max(), distances[8:, 8:].max())
    assert within < distances[:8, 8:].min()
