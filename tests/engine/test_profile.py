"""Profiles: what is written is read back, paths mean what people expect, and every error says where and what instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.profile import (
    Data,
    EarlyStopping,
    Evaluation,
    Hardware,
    Method,
    Model,
    Profile,
    Split,
    Template,
    Training,
    flat,
    unresolved,
)
from engine.profile_file import dump, find, parse, problems, read, updated, value_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HUB_IDS = st.from_regex(r"[a-zA-Z][\w-]{0,8}(/[a-zA-Z][\w.-]{0,8}[\w-])?", fullmatch=True)
SEEDS = st.integers(0, 2**31 - 1)
PROFILES = st.builds(
    Profile,
    title=TEXTS,
    model=st.builds(
        Model,
        base=HUB_IDS | st.just("/models/llama") | st.just("run:speech"),
        dtype=st.sampled_from(["bfloat16", "float32"]),
    ),
    data=st.lists(
        st.builds(
            Data,
            source=HUB_IDS,
            subset=TEXTS,
            columns=st.dictionaries(st.sampled_from(["instruction", "input", "odd key", "a.b"]), TEXTS),
            weight=st.floats(1e-9, 1000),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    template=st.builds(Template, system=TEXTS, max_tokens=st.just("auto") | st.integers(16, 1_048_576)),
    split=st.builds(Split, test=st.just(0) | st.floats(1e-6, 0.99), stratify=TEXTS, seed=SEEDS),
    method=st.builds(
        Method,
        rank=st.integers(1, 1024),
        dropout=st.floats(0, 0.99),
        targets=st.just("all-linear") | st.lists(TEXTS, max_size=3).map(tuple),
    ),
    training=st.builds(
        Training,
        max_steps=st.none() | st.integers(1, 10**9),
        learning_rate=st.floats(1e-12, 1),
        micro_batch=st.sampled_from(["auto", 1, 2, 4, 8, 16]),
        checkpoint_activations=st.just("auto") | st.booleans(),
        evaluate_every=st.just("epoch") | st.integers(1, 10**6),
        early_stopping=st.none() | st.builds(EarlyStopping, patience=st.integers(1, 1000)),
        seed=SEEDS,
        mirror=st.lists(st.sampled_from(["tensorboard", "wandb", "trackio"]), max_size=2).map(tuple),
    ),
    hardware=st.builds(
        Hardware, gpus=st.just("auto") | st.lists(st.integers(0, 9) | st.just("GPU-1b2c"), max_size=3).map(tuple)
    ),
    evaluation=st.builds(Evaluation, suites=st.lists(HUB_IDS, max_size=3).map(tuple)),
)

FILE = """\
# mine
title = "A test"

[model]
base = "org/base"   # the small one

[[data]]
source = "first.jsonl"

[[data]]
source = "org/second"
[data.columns]
instruction = "question"

[template]
system = \"\"\"
[method]
rank = 99
\"\"\"

[method]
rank = 8
alpha = 16

[training]
epochs = 2
early_stopping = { patience = 2 }
"""


@settings(max_examples=150, deadline=None)
@given(PROFILES)
def test_what_is_written_is_read_back(profile: Profile) -> None:
    assert parse(dump(profile), Path("/nowhere/profile.toml")) == profile


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=200) | st.sampled_from(FILE.splitlines()).flatmap(lambda cut: st.just(FILE.replace(cut, "[", 1)))
)
def test_any_text_is_a_profile_or_a_problem(text: str) -> None:
    try:
        parse(text, Path("/nowhere/profile.toml"))
    except Problem as problem:
        assert problem.what.startswith("/nowhere/profile.toml")


def complaint(text: str, *settings: str) -> str:
    with pytest.raises(Problem) as caught:
        parse(text, Path("p.toml"), settings)
    assert caught.value.code == "profile"
    return "\n".join(filter(None, (caught.value.what, caught.value.why)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rank = 8", "rnk = 8", "p.toml:22: method.rnk: unknown key - did you mean rank?"),
        (
            "rank = 8",
            "epochs = 8",
            "p.toml:22: method.epochs: unknown key here - did you mean training.epochs?",
        ),
        (
            "rank = 8",
            "qqq = 8",
            "p.toml:22: method.qqq: unknown key; allowed are name, rank, alpha, dropout, targets, dora, rslora, bias, modules_to_save, virtual_tokens",
        ),
        ("[method]\nrank = 8", "[methods]\nrank = 8", "p.toml:21: methods: unknown key - did you mean method?"),
        ("rank = 8", 'rank = "8"', 'p.toml:22: method.rank: found "8"; should be an integer from 1 to 1024'),
        ("rank = 8", "rank = true", "p.toml:22: method.rank: found true; should be an integer from 1 to 1024"),
        ("rank = 8", "rank = 0", "p.toml:22: method.rank: found 0; should be an integer from 1 to 1024"),
        ("rank = 8", "dropout = 1", "p.toml:22: method.dropout: found 1; should be a number >= 0 and < 1"),
        ("rank = 8", 'dora = "yes"', 'p.toml:22: method.dora: found "yes"; should be true or false'),
        (
            "rank = 8",
            "targets = [1]",
            "p.toml:22: method.targets: found [1]; should be 'all-linear' or a list of texts",
        ),
        (
            "alpha = 16",
            'name = "lorra"',
            "p.toml:23: method.name: found \"lorra\"; should be 'full', 'lora', 'ia3', 'prefix', 'p_tuning' or 'prompt_tuning' - did you mean lora?",
        ),
        (
            "epochs = 2",
            'mirror = ["wand"]',
            "p.toml:26: training.mirror: found \"wand\"; should be a list of 'tensorboard' or 'wandb' or 'trackio' - did you mean wandb?",
        ),
        ("epochs = 2", "epochs = -1", "p.toml:26: training.epochs: found -1; should be a number > 0 and <= 1000"),
        (
            "epochs = 2",
            "micro_batch = -1",
            "p.toml:26: training.micro_batch: found -1; should be 'auto' or an integer from 1 to 65536",
        ),
        (
            "epochs = 2",
            'save_every = "never"',
            "p.toml:26: training.save_every: found \"never\"; should be 'epoch' or an integer >= 1",
        ),
        (
            "epochs = 2",
            "effective_batch = 10\nmicro_batch = 4",
            "p.toml:26: training.effective_batch: training.effective_batch = 10 is not a multiple of "
            "training.micro_batch = 4",
        ),
        (
            "patience = 2",
            "patience = 0",
            "p.toml:27: training.early_stopping.patience: found 0; should be an integer from 1 to 1000",
        ),
        (
            'source = "org/second"',
            'source = "org/second"\nwieght = 2.0',
            "p.toml:12: data.1.wieght: unknown key - did you mean weight?",
        ),
        (
            'instruction = "question"',
            "instruction = 3",
            "p.toml:13: data.1.columns.instruction: found 3; should be a table of texts",
        ),
        ('base = "org/base"', 'base = ""', 'p.toml:5: model.base: found ""; should be a text that is not empty'),
        (
            'base = "org/base"',
            'revision = "x"',
            "p.toml:4: model.base: missing; should be a text that is not empty",
        ),
    ],
)
def test_an_error_names_file_line_key_what_was_found_and_what_is_allowed(old: str, new: str, said: str) -> None:
    assert old in FILE
    # The table [method] in the template's text is none: replace the last occurrence.
    before, _, after = FILE.rpartition(old)
    assert complaint(before + new + after) == said


def test_keys_written_in_other_ways_are_found_too() -> None:
    short = (
        'model.base = "x"\nmethod = { name = "lora", rank = 0 }\ntraining."epochs" = -1\ndata = [{ source = "y" }]\n'
    )
    assert complaint(short).splitlines() == [
        "p.toml:2: method.rank: found 0; should be an integer from 1 to 1024",
        "p.toml:3: training.epochs: found -1; should be a number > 0 and <= 1000",
    ]
    assert complaint(short.replace("rank = 0", "rank = 8").replace('source = "y"', "")).splitlines() == [
        "p.toml:4: data.0.source: missing; should be a text that is not empty",
        "p.toml:3: training.epochs: found -1; should be a number > 0 and <= 1000",
    ]
    assert complaint('model.base = "x"\n') == (
        "p.toml: data: missing; should be a list of tables with source, subset, split, columns, weight"
    )
    assert complaint("method = 3\nmodel.base = 'x'\ndata = 'y'").splitlines() == [
        'p.toml:3: data: found "y"; should be a list of tables with source, subset, split, columns, weight',
        "p.toml:1: method: found 3; should be a table with name, rank, alpha, dropout, targets, dora, rslora, bias, modules_to_save, virtual_tokens",
    ]


def test_text_that_is_no_toml_says_where() -> None:
    assert complaint("[model\nbase = 3").startswith("p.toml:1: this is not TOML")
    assert complaint("a = 1\na = 2").startswith("p.toml")


def test_a_quantised_base_cannot_be_trained_in_full() -> None:
    said = complaint(FILE.replace("rank = 8", 'name = "full"'), "model.quantization=nf4")
    assert "method.name = full cannot train a quantised base" in said


def test_settings_go_on_top() -> None:
    changed = parse(
        FILE,
        Path("p.toml"),
        [
            "training.epochs=5",
            "method.targets=['q_proj']",
            "template.system=no quotes, no = trouble",
            "data.1.columns.label=final",
            "hardware.device = cpu",
            "title=",
            "evaluation.suites=['test']",
            "training.early_stopping.patience=9",
        ],
    )
    assert (changed.training.epochs, changed.method.targets, changed.title) == (5, ("q_proj",), "")
    assert changed.template.system == "no quotes, no = trouble"
    assert changed.data[1].columns == {"instruction": "question", "label": "final"}
    assert (changed.hardware.device, changed.evaluation.suites) == ("cpu", ("test",))
    assert changed.training.early_stopping == EarlyStopping(patience=9)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.epochs", "--set training.epochs is not of the form key=value"),
        ("=3", "--set =3 is not of the form key=value"),
        ("data.7.source=x", "There is no place for data.7.source"),
        ("title.deep=x", "There is no place for title.deep"),
        ("data.first.source=x", "There is no place for data.first.source"),
        ("trainig.epochs=3", "--set trainig: unknown key - did you mean training?"),
        ("training.epochs=many", '--set training.epochs: found "many"; should be a number > 0 and <= 1000'),
        ("method={rank = 0}", "--set method.rank: found 0; should be an integer from 1 to 1024"),
    ],
)
def test_a_setting_that_cannot_be_says_so(setting: str, said: str) -> None:
    assert said in complaint(FILE, setting)


def test_what_is_typed_as_a_value() -> None:
    typed = {
        "16": 16,
        "2e-4": 2e-4,
        "true": True,
        '["a", "b"]': ["a", "b"],
        "'x'": "x",
        "bare words": "bare words",
        "": "",
        "1\nother = 2": "1\nother = 2",
    }
    assert {text: value_of(text) for text in typed} == typed


def test_paths_in_a_file_are_relative_to_it_and_in_settings_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    (folder / "local-model").mkdir()
    (folder / "chat").mkdir()
    (folder / "retention").mkdir()
    (tmp_path / "blob").touch()
    (folder / "linked.jsonl").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path / "work")
    file = folder / "p.toml"
    file.write_text(
        'model.base = "local-model"\n'
        'split.test = "../ids.txt"\n'
        'template = { name = "chat", system = "./not/a/path.txt" }\n'
        'evaluation.suites = ["retention", "own.jsonl", "test"]\n'
        'data = [{ source = "linked.jsonl" }, { source = "~/x.csv" }, { source = "org/name", split = "train.json" },'
        ' { source = "*.json" }, { source = "/absolute/../x" }]\n'
    )
    profile = read(file)
    assert profile.model.base == str(folder / "local-model")
    assert profile.split.test == str(tmp_path / "ids.txt")
    assert (profile.template.name, profile.template.system) == ("chat", "./not/a/path.txt")
    assert profile.evaluation.suites == ("retention", str(folder / "own.jsonl"), "test")
    assert [source.source for source in profile.data] == [
        str(folder / "linked.jsonl"),
        str(Path.home() / "x.csv"),
        "org/name",
        str(folder / "*.json"),
        "/absolute/../x",
    ]
    assert profile.data[2].split == "train.json"
    assert read(Path("../profiles/p.toml")) == profile

    changed = read(file, ["data.0.source=../mine.json", "model.base=org/model", "evaluation.suites=['./s.jsonl']"])
    assert changed.data[0].source == str(tmp_path / "mine.json")
    assert changed.model.base == "org/model"
    assert changed.evaluation.suites == (str(tmp_path / "work" / "s.jsonl"),)
    assert read(file, ["model.base=local-model"]).model.base == "local-model", "no such folder here: a hub id"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="There is no file"):
        read(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Problem, match="cannot be read"):
        read(tmp_path / "binary.toml")
    with pytest.raises(Problem, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())
    assert read(tmp_path / "windows.toml").title == "A test"


def test_a_profile_is_found_by_path_or_by_the_name_of_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "own.toml").touch()
    assert find(str(tmp_path / "own.toml")) == tmp_path / "own.toml"
    assert find("pubmedqa").name == "pubmedqa.toml"
    with pytest.raises(Problem, match="did you mean pubmedqa"):
        find("pubmed-qa")


def test_a_form_learns_what_is_wrong_by_key() -> None:
    values: dict[str, object] = {"model": {"base": "x"}, "data": [{"source": "y"}]}
    assert problems(values) == {}
    assert problems({**values, "method": {"rank": 0, "name": "full"}, "training": {"micro_batch": "many"}}) == {
        "method.rank": "found 0; should be an integer from 1 to 1024",
        "training.micro_batch": "found \"many\"; should be 'auto' or an integer from 1 to 65536",
    }
    assert list(problems({**values, "training": {"effective_batch": 10, "micro_batch": 4}})) == [
        "training.effective_batch"
    ]
    assert problems({}).keys() == {"model", "data"}


def test_changing_a_text_keeps_its_comments() -> None:
    changed = updated(FILE, {"model.base": "org/other", "training.epochs": 4, "method.alpha": None, "split.seed": 3})
    assert "# mine" in changed
    assert "# the small one" in changed
    profile = parse(changed, Path("p.toml"))
    assert (profile.model.base, profile.training.epochs, profile.method.alpha, profile.split.seed) == (
        "org/other",
        4,
        32,
        3,
    )
    again = updated(changed, {"data.1.columns.label": "final", "method.targets": ("a", "b"), "no.such": None})
    assert parse(again.replace("[no]\n", ""), Path("p.toml")).data[1].columns["label"] == "final"
    with pytest.raises(Problem, match=r"no place for data\.9\.source"):
        updated(FILE, {"data.9.source": "x"})
    with pytest.raises(Problem, match="not TOML"):
        updated("[", {"title": "x"})


def test_a_profile_flattened_shows_what_is_unresolved() -> None:
    profile = parse(FILE, Path("/p.toml"), ["template.max_tokens=512"])
    assert flat(profile)["data.1.columns.instruction"] == "question"
    assert flat(profile)["training.early_stopping.patience"] == 2
    assert flat(profile)["method.targets"] == "all-linear"
    assert unresolved(profile) == [
        "model.attention",
        "training.micro_batch",
        "training.packing",
        "training.row_tokens",
        "training.checkpoint_activations",
        "hardware.gpus",
        "hardware.device",
        "hardware.ranks",
        "hardware.sharding",
    ]
