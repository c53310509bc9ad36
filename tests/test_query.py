"""The text form of queries, arithmetic on terms, and weights."""

import pytest

import bindsearch as bs
from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.items import Modality, Span
from bindsearch.query import Composition, Query, Term, make_query, parse_modalities, parse_query, resolve_weights


def test_the_issue_example_parses() -> None:
    terms = parse_query("0.5*image:fruit.jpg + 0.5*audio:birds.wav").terms
    assert terms == (Term("image", "fruit.jpg", 0.5), Term("audio", "birds.wav", 0.5))


def test_every_part_of_the_grammar() -> None:
    expression = "0.5*image:fruit.jpg + 0.5*audio:\"bird song.wav\"@12s-15s - 0.3*text:'people' + like:17 - dog barking"
    assert parse_query(expression).terms == (
        Term("image", "fruit.jpg", 0.5),
        Term("audio", "bird song.wav", 0.5, span=Span(12.0, 15.0)),
        Term("text", "people", -0.3),
        Term("like", "17"),
        Term(None, "dog barking", negative=True),
    )


@pytest.mark.parametrize(
    ("expression", "sources"),
    [
        ("image:/a-b/c+d-1.jpg - audio:my-song.wav", ["/a-b/c+d-1.jpg", "my-song.wav"]),
        ("0.5*image:a-b.jpg+0.5*audio:c-d.wav", ["a-b.jpg", "c-d.wav"]),
        ("image:a.jpg-like:3", ["a.jpg", "3"]),
        ("black-and-white dog -people", ["black-and-white dog", "people"]),
        ("-like:3", ["3"]),
    ],
)
def test_signs_inside_names_belong_to_the_names(expression: str, sources: list[str]) -> None:
    assert [term.source for term in parse_query(expression).terms] == sources


@pytest.mark.parametrize(
    ("expression", "message", "position"),
    [
        ("", "empty", 0),
        ("0.5*image:a.jpg +", "expected a text", 17),
        ("image:a.jpg audio:b.wav", "expected + or -", 12),
        ("picture:a.jpg", "unknown prefix 'picture'", 0),
        ("audio:'a.wav", "not closed", 6),
        ("audio:a.wav@12-", "span", 11),
        ("audio:a.wav@15s-12s", "ends before", 11),
        ("a*b", "unexpected *", 1),
        ("text:''", "nothing", 5),
        ("'a' 'b'", "expected + or -", 4),
    ],
)
def test_errors_point_at_the_character(expression: str, message: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query(expression)
    assert message in str(caught.value)
    assert caught.value.position == position
    assert f"character {position + 1}" in str(caught.value)


def test_python_arithmetic_builds_the_same_terms() -> None:
    built = 0.5 * bs.image("a.jpg") + 0.5 * bs.audio("b.wav") - bs.text("people")
    assert built == parse_query("0.5*image:a.jpg + 0.5*audio:b.wav - text:people")
    assert -bs.text("x") == Term("text", "x", negative=True)
    assert 2 * (bs.text("x") - bs.text("y")) == Composition((Term("text", "x", 2.0), Term("text", "y", -2.0)))


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("a + b", (0.5, 0.5)),
        ("a - b", (0.5, -0.5)),
        ("a", (1.0,)),
        ("a + b + c", (1 / 3, 1 / 3, 1 / 3)),
        ("0.3*a - b", (0.3, -1.0)),
        ("-0.3*a + 2*b", (-0.3, 2.0)),
    ],
)
def test_weights_follow_the_design(expression: str, weights: tuple[float, ...]) -> None:
    assert resolve_weights(parse_query(expression).terms) == pytest.approx(weights)


def test_a_plain_string_is_text_and_never_an_expression() -> None:
    assert make_query("0.5*image:a.jpg + like:3").terms == (Term("text", "0.5*image:a.jpg + like:3"),)


def test_modalities_by_name() -> None:
    assert parse_modalities(None) == tuple(Modality)
    assert parse_modalities(" Video,image,image") == (Modality.IMAGE, Modality.VIDEO)
    with pytest.raises(UsageError, match=r"unknown modality 'smell': choose from text, image"):
        parse_modalities("smell")


def test_a_query_that_asks_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        Query(())
    with pytest.raises(UsageError, match="at least 1"):
        make_query("x", k=0)
    with pytest.raises(UsageError, match="unknown ranking 'best'"):
        make_query("x", rank="best")
    with pytest.raises(UsageError, match="no query term"):
        bs.text("x") + "y"  # type: ignore[operator]
