from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automatch.errors import RulesError
from automatch.rules.file import dumps, loads
from automatch.rules.formula import Name
from automatch.rules.pattern import parse
from automatch.rules.reading import read_reading, read_term
from automatch.rules.ruleset import Claim, Rule, RuleSet, Size
from automatch.rules.terms import Term, formulas, keys, with_formulas
from tests.rules.drawn import TERMS

RULES = RuleSet(
    source="Old",
    target="New",
    rules=(
        Rule(parse("h.{i}.{x:q|k}.w"), read_term("rotary_pairs(l.{i}.{x}.w, heads=heads)"), "proved"),
        Rule(parse("h.{i}.v.w"), read_term("l.{depth - 1 - i}.v.w"), "structural", "looked at by a person"),
        Rule(parse("experts"), read_term("stack(e.{e}.w for e)"), "guessed"),
        Rule(parse("table"), None, "unmapped", "it is computed"),
    ),
    sizes=(
        Size("heads", (read_reading("source.config.heads"), read_reading("target[h.*.q.w][0]")), 4),
        Size("depth", (read_reading("source.count(l.*.v.w)"),), otherwise=(read_reading("heads // 2"),)),
        Size("width", (), 12),
    ),
    notes=("the 'table' is left out", 'with "quotes", \\ and \x7f'),
)

TEXT = """format = "automatch.rules"
version = 1
source = "Old"
target = "New"
notes = [
  "the 'table' is left out",
  "with \\"quotes\\", \\\\ and \\u007f",
]

[sizes]
heads = {read = ["source.config.heads", "target[h.*.q.w][0]"], example = 4}
depth = {read = "source.count(l.*.v.w)", otherwise = "heads // 2"}
width = 12

[proved]
"h.{i}.{x:q|k}.w" = "rotary_pairs(l.{i}.{x}.w, heads=heads)"

[structural]
"h.{i}.v.w" = {is = "l.{depth - 1 - i}.v.w", because = "looked at by a person"}

[guessed]
"experts" = "stack(e.{e}.w for e)"

[unmapped]
"table" = "it is computed"
"""


def test_rules_are_a_file_that_a_person_can_read() -> None:
    assert dumps(RULES) == TEXT
    assert str(RULES) == TEXT
    assert loads(TEXT, "f") == RULES


def test_a_file_appears_whole_with_the_same_bytes_every_time(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    RULES.save(path)
    assert path.read_bytes() == TEXT.encode()
    assert RuleSet.load(path) == RULES
    assert list(tmp_path.iterdir()) == [path]


CLAIMS: tuple[Claim, ...] = ("proved", "structural", "guessed")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(TERMS, st.sampled_from(CLAIMS), st.text(max_size=8)), max_size=4),
    st.lists(st.text(), max_size=2),
)
def test_any_rules_come_back_from_their_text(drawn: list[tuple[Term, Claim, str]], notes: list[str]) -> None:
    known = [(with_formulas(term, [Name("n")] * len(formulas(term))), claim, reason) for term, claim, reason in drawn]
    loose = {name for term, _, _ in known for pattern in keys(term) for name in pattern.variables}
    sizes = tuple(Size(name, (read_reading("source.n"),)) for name in sorted({*loose, "n"}))
    rules = [Rule(parse(f"w{n}"), term, claim, reason) for n, (term, claim, reason) in enumerate(known)]
    ordered = sorted(rules, key=lambda rule: CLAIMS.index(rule.claim))
    made = RuleSet("", "", tuple(ordered), sizes, tuple(notes))
    assert loads(dumps(made), "f") == made
    assert dumps(loads(dumps(made), "f")) == dumps(made)
    assert tomllib.loads(dumps(made))["format"] == "automatch.rules"


HEAD = 'format = "automatch.rules"\nversion = 1\n'

FAULTY = (
    HEAD
    + """
source = 3
colour = "red"
[sizes]
"two words" = 1
heads = {read = "source.config.heads", colour = "red"}
depth = []
width = "width / 2"
rows = -3
[proved]
"h.{i" = "l.w"
"h.{i + 1}" = "l.w"
"a" = 3
"b" = "cat(x"
"c" = {because = "no term"}
[unmapped]
"d" = ["no", "text"]
"""
)


def test_all_faults_are_listed_together_each_with_its_place() -> None:
    with pytest.raises(RulesError) as caught:
        loads(FAULTY, "my.toml")
    lines = str(caught.value).split("\n")
    assert lines[0] == "my.toml: the rules are damaged; mend the file:"
    places = [
        "$.source: ",
        "$.colour: ",
        '$.sizes["two words"]: a size is called by a word such as heads',
        "$.sizes.heads.colour: ",
        "$.sizes.depth: ",
        "$.sizes.width: 'width / 2' is no place to read a size from",
        "$.sizes.rows: ",
        "$.proved[\"h.{i\"]: 'h.{i': a brace is not closed",
        '$.proved["h.{i + 1}"]: h.{i + 1}: a target\'s key has variables',
        "$.proved.a: ",
        "$.proved.b: 'cat(x': expected ')'",
        "$.proved.c.is: ",
        "$.unmapped.d: ",
    ]
    missing = [place for place in places if not any(line.strip().startswith(place) for line in lines)]
    assert missing == [], "\n".join(lines)
    assert len(lines) == 1 + len(places)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = ", r"^f: not TOML: .*; mend the file or make it again$"),
        ("", r"^f: .*automatch\.rules"),
        ('format = "automatch.mapping"\nversion = 1', r"^f: .*automatch\.mapping"),
        ('format = "automatch.rules"\nversion = 2', r"^f: .*version"),
        ('format = "automatch.rules"\nversion = "1"', r"^f: .*version"),
        ("[" * 5000 + "]" * 5000, r"^f: not TOML"),
    ],
)
def test_a_file_of_another_kind_or_version_is_refused(text: str, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        loads(text, "f")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('[proved]\n"h.{i}.w" = "l.{j}.w"', ["'h.{i}.w': j is neither in the key nor in [sizes]"]),
        ('[proved]\n"w" = "rotary_pairs(v, heads=heads)"', ["'w': heads is neither in the key nor in [sizes]"]),
        ('[proved]\n"w" = "{n ** 2} * v[a:b]"', [f"'w': {n} is neither in the key nor in [sizes]" for n in "nab"]),
        ('[proved]\n"w" = "cat(l.{e}.w)"', ["'w': e is neither in the key nor in [sizes]"]),
        ('[proved]\n"w" = "v"\n[guessed]\n"w" = "u"', ["'w' is spoken of 2 times"]),
        ('[sizes]\nn = "m // 2"', ["size n: m is not in [sizes]"]),
        ('[sizes]\nn = {read = "source.n", otherwise = "m // 2"}', ["size n: m is not in [sizes]"]),
        ('[sizes]\nn = "2 * n"\nm = "n"', ["size n is derived from itself"]),
        ('[sizes]\na = "b"\nb = ["source.b", "c"]\nc = "a + 1"', [f"size {n} is derived from itself" for n in "abc"]),
    ],
)
def test_names_that_nothing_declares_are_faults(text: str, faults: list[str]) -> None:
    with pytest.raises(RulesError) as caught:
        loads(HEAD + text, "f")
    found = [line.strip() for line in str(caught.value).split("\n")[1:]]
    assert sorted(found) == sorted(faults)


def test_a_loops_variable_is_declared_by_the_loop() -> None:
    rules = loads(HEAD + '[proved]\n"w" = "stack(l.{e}.w for e)"', "f")
    assert str(rules.rules[0].target) == "w"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"rules\.toml"):
        RuleSet.load(tmp_path / "rules.toml")
    with pytest.raises(RulesError, match="nowhere"):
        RULES.save(tmp_path / "nowhere" / "rules.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RulesError, match=r"binary\.toml"):
        RuleSet.load(tmp_path / "binary.toml")


def test_a_rule_whose_source_need_not_be_there_says_so() -> None:
    text = HEAD + '\n[proved]\n"w.{i}" = {is = "v.{i}", partial = true, because = "the first layer has none"}\n'
    (rule,) = loads(text, "f").rules
    assert (rule.partial, rule.reason) == (True, "the first layer has none")
    assert dumps(loads(text, "f")) == text
    with pytest.raises(RulesError, match=r"\$\.proved\.w\.partial: "):
        loads(HEAD + '[proved]\n"w" = {is = "v", partial = 1}', "f")
