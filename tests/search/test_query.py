"""The text form of queries, arithmetic on terms, and weights."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.search.query import (
    PREFIXES,
    Composition,
    Query,
    Term,
    make_query,
    parse_modalities,
    resolve_weights,
)
from bindsearch.search.query_syntax import format_query, parse_query
from bindsearch.types import LEAST_PROBABILITY, Match, Modality, Span
from bindsearch.vectors import compose, l2_normalize, scale_features


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
        ("image:-5.jpg", ["-5.jpg"]),
        ("1e-3*a - 2.E+1*b + .5*c", ["a", "b", "c"]),
        ('\'it\'\'s\' + "a ""b"" c"', ["it's", 'a "b" c']),
        ("'0.5*a + b' - \"x@y\"", ["0.5*a + b", "x@y"]),
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
        ("audio:a.wav@3s-3s", "the span ends before it starts", 11),
        ("audio:a.wav@15s-12s", "ends before", 11),
        ("a*b", "unexpected *", 1),
        ("text:''", "quotes are empty", 5),
        ("'a' 'b'", "expected + or -", 4),
        ("'a''b", "not closed", 0),
        ("a ++ b", "expected a text", 3),
        ("a + -b", "expected a text", 4),
        ("a + 0.5*", "expected a text", 8),
        (f"a + 1{'0' * 400}*b", "too large", 4),
        ("audio:a.wav@1s-1e999s", "too large", 15),
        ("like:3 dog's bark", "unexpected '", 10),
    ],
)
def test_errors_point_at_the_character(expression: str, message: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query(expression)
    assert message in str(caught.value)
    assert caught.value.position == position
    assert f"character {position + 1}" in str(caught.value)


@pytest.mark.parametrize("modality", [modality for modality in Modality if modality is not Modality.TEXT])
def test_a_function_for_each_kind_of_file_makes_its_term(modality: Modality) -> None:
    assert getattr(bs, modality)("folder/file") == Term(modality, "folder/file")


def test_python_arithmetic_builds_the_same_terms() -> None:
    built = 0.5 * bs.image("a.jpg") + 0.5 * bs.audio("b.wav") - bs.text("people")
    assert built == parse_query("0.5*image:a.jpg + 0.5*audio:b.wav - text:people")
    assert -bs.text("x") == Term("text", "x", negative=True)
    assert -(bs.text("x") - bs.text("y")) == Composition((-bs.text("x"), bs.text("y")))
    assert (bs.text("x") - 0.5 * bs.text("y")) / 2 == Composition((Term("text", "x", 0.5), Term("text", "y", -0.25)))
    assert bs.text("x") - (bs.text("y") - bs.text("z")) == bs.text("x") - bs.text("y") + bs.text("z")
    assert -bs.text("x") / 4 == Term("text", "x", -0.25)
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


@pytest.mark.parametrize(
    ("names", "modality"),
    [
        ("picture pictures photo photos image images Photos", Modality.IMAGE),
        ("sound sounds audio audios", Modality.AUDIO),
        ("clip clips video videos", Modality.VIDEO),
        ("motion motions imu", Modality.IMU),
        ("text texts document documents", Modality.TEXT),
        ("depth depths", Modality.DEPTH),
        ("thermal", Modality.THERMAL),
    ],
)
def test_everyday_names_of_modalities(names: str, modality: Modality) -> None:
    for name in names.split():
        assert parse_modalities(name) == (modality,)
        assert parse_modalities([name, "depth"]) == parse_modalities([modality, Modality.DEPTH])


@pytest.mark.parametrize(
    ("name", "near"), [("pictuer", "'pictures'"), ("fotos", "'photos'"), ("vidoes", "'video'"), ("sonds", "'sounds'")]
)
def test_an_unknown_modality_suggests_near_names(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown modality '{name}': did you mean .*{near}.*choose from text, image"):
        parse_modalities(name)


def test_a_query_that_asks_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        Query(())
    with pytest.raises(UsageError, match="at least 1"):
        make_query("x", k=0)
    with pytest.raises(UsageError, match="unknown ranking 'best'"):
        make_query("x", ranking="best")
    with pytest.raises(UsageError, match="is not a query term"):
        bs.text("x") + 5  # type: ignore[operator]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
names = words | st.text("ab.-+*@ \"':/\n", min_size=1)
spans = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).filter(lambda pair: pair[0] < pair[1])
terms = st.builds(
    lambda kind, source, weight, negative, span: Term(
        kind, source, weight, negative and weight is None, span and Span(*span)
    ),
    st.sampled_from([None, *PREFIXES]),
    names,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none() | spans,
)


@given(st.lists(terms, min_size=1, max_size=5))
@example([Term("image", "it's \"5\" o'clock.jpg", -1e-300, span=Span(1e-7, 1e22))])
def test_the_text_form_of_terms_is_read_as_the_same_terms(made: list[Term]) -> None:
    assert parse_query(format_query(made)).terms == tuple(made)


def test_the_text_form_quotes_only_what_needs_it() -> None:
    expression = '0.5*image:a-b/fruit.jpg + 0.5*audio:"bird song.wav"@12s-15.5s - 0.3*text:people - like:17'
    assert format_query(parse_query(expression).terms) == expression
    assert format_query([Term("text", 'say "hi"'), Term(None, "both ' and \"", negative=True)]) == (
        'text:\'say "hi"\' - "both \' and """'
    )


pieces = st.sampled_from([*"+-*@\"' .:e", "0.5", "12s", "text:", "image:", "like:", "a", "http://", "1e999"])


@given(st.text() | st.lists(pieces).map("".join))
def test_any_string_parses_or_says_where_it_does_not(expression: str) -> None:
    failure = None
    try:
        parsed = parse_query(expression)
    except QuerySyntaxError as error:
        failure = error
    if failure is None:
        assert parse_query(format_query(parsed.terms)) == parsed
    else:
        assert 0 <= failure.position <= len(expression)
        assert failure.expression == expression


@given(st.lists(st.tuples(st.floats(0.05, 3), st.booleans(), st.floats(0.1, 100)), min_size=2, max_size=5))
def test_an_expression_composes_by_the_papers_formula_whatever_the_temperatures(
    made: list[tuple[float, bool, float]],
) -> None:
    """Paper, B.4: each term's normalised features, weighted, summed; the sum normalised."""
    units = l2_normalize(np.random.default_rng(len(made)).standard_normal((len(made), 64)))
    signed = [(-weight if negative else weight) for weight, negative, _ in made]
    expression = "".join(f" {'-' if weight < 0 else '+'} {abs(weight)!r}*text:t" for weight in signed)
    scaled = np.stack([scale_features(unit, t) for unit, (_, _, t) in zip(units, made, strict=True)])
    expected = sum(weight * unit for weight, unit in zip(signed, units.astype(np.float64), strict=True))
    composed = compose(scaled, resolve_weights(parse_query(expression).terms))
    np.testing.assert_allclose(composed, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_sum_of_scaled_features_would_fail_that() -> None:
    units = l2_normalize(np.random.default_rng(0).standard_normal((2, 64)))
    weights = np.array(resolve_weights(parse_query("image:a.jpg + audio:b.wav").terms), np.float32)
    right = compose(units, weights.tolist())
    for temperatures in ((1.0, 20.0), (10.0, 5.0)):
        scaled = np.stack([scale_features(unit, t) for unit, t in zip(units, temperatures, strict=True)])
        np.testing.assert_allclose(compose(scaled, weights.tolist()), right, atol=1e-5)
        assert float(l2_normalize(weights @ scaled) @ right) < 0.96


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": 3}, "the list of terms"),
        ({"terms": [3]}, "3 is not a query term: create one with"),
        ({"terms": [Term("text", 3)]}, "is not a query term"),  # type: ignore[arg-type]
        ({"terms": [Term("text", " \n")]}, "the query is empty"),
        ({"terms": [Term("smell", "a")]}, "unknown kind of term 'smell': choose from text"),
        ({"terms": [Term(3, "a")]}, "unknown kind of term 3"),  # type: ignore[arg-type]
        ({"terms": [Term("text", "\ud800")]}, "is not UTF-8"),
        ({"terms": [Term("audio", "a.wav", caption="a dog")]}, "only pictures and videos have one"),
        ({"terms": [Term("image", "a.jpg", caption=3)]}, "only pictures and videos have one"),  # type: ignore[arg-type]
        ({"terms": [Term("audio", "a.wav", span=(1, 2))]}, "give a Span in seconds"),  # type: ignore[arg-type]
        ({"terms": [Term("audio", "a.wav", span=Span(1, math.inf))]}, "a time of a span"),
        ({"terms": [Term("text", "a", math.nan)]}, "the weight of 'a'"),
        ({"to": ()}, "no target modality: choose from text"),
        ({"k": 0}, "ask for at least 1 hit"),
        ({"k": 1.5}, "ask for at least 1 hit"),
        ({"diversity": 1.01}, "give a number from 0 (nearest) to 1"),
        ({"diversity": -0.01}, "give a number from 0 (nearest) to 1"),
        ({"min_match": 1.01}, "give a probability from 0"),
        ({"min_match": -0.01}, "give a probability from 0"),
        ({"words": "maybe"}, "unknown search by words 'maybe'"),
        ({"filter": "x > 1"}, "the filter is 'x > 1': create one with bs.make_filter"),
    ],
)
def test_a_query_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        Query(**{"terms": (Term("text", "a"),)} | changes)
    assert "\n" not in str(caught.value)


def test_a_query_at_the_bounds_is_made() -> None:
    for value in (0, 1):
        query = Query((Term("text", "a"),), k=1, diversity=value, min_match=value)
        assert (query.k, query.diversity, query.min_match) == (1, value, value)
        assert type(query.diversity) is type(query.min_match) is float
    defaults = make_query("a")
    assert defaults == Query((Term("text", "a"),))
    assert (defaults.k, defaults.to, defaults.include_query, defaults.copies) == (10, tuple(Modality), False, False)
    assert (defaults.ranking, defaults.words, defaults.min_match) == ("probability", "auto", 0.0)
    assert make_query("a", ranking="calibrated").ranking == "z"
    assert make_query("a", min_match="likely").min_match == LEAST_PROBABILITY[Match.LIKELY]
    caption = Term("video", "a.mp4", caption="a dog")
    assert make_query(caption).terms == (caption,)
    assert bs.image("a.jpg", caption="b") == Term("image", "a.jpg", caption="b")
    assert bs.video("a.mp4", caption="b") == Term("video", "a.mp4", caption="b")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bs.text("x") / 0, "a query term is divided by 0: give another number"),
        (lambda: (bs.text("x") - bs.text("y")) / 0.0, "a query term is divided by 0"),
        (lambda: bs.text("x") / math.inf, "a divisor"),
        (lambda: bs.text("x") * math.inf, "a weight"),
        (lambda: bs.text(3), "3 is not a text: give a string"),  # type: ignore[arg-type]
        (lambda: bs.like(2.5), "the item of like"),  # type: ignore[arg-type]
        (lambda: make_query(3), "3 is not a query term"),  # type: ignore[arg-type]
    ],
)
def test_arithmetic_that_has_no_result_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_an_item_is_named_by_id_or_by_path() -> None:
    assert bs.like(17) == bs.like("17") == Term("like", "17")
    assert bs.like(Path("a/b.jpg")) == Term("like", "a/b.jpg")


def test_signs_and_weights_of_negated_terms() -> None:
    weighted = Term("text", "x", 0.5)
    assert -weighted == Term("text", "x", -0.5)
    assert -Term("text", "x", negative=True) == bs.text("x")
    assert 2 * -bs.text("x") == Term("text", "x", -2.0)
    assert 2 * -weighted == Term("text", "x", -1.0)
    assert bs.text("b") + "c" == bs.text("b") + bs.text("c")  # type: ignore[operator]
    assert resolve_weights(()) == ()
    assert resolve_weights((weighted, Term("text", "y", negative=True), Term("text", "z"))) == (0.5, -1.0, 1.0)


@pytest.mark.parametrize("names", ["", ",", []])
def test_without_a_modality_none_is_a_target(names: str | list[str]) -> None:
    assert parse_modalities(names) == ()


@pytest.mark.parametrize(
    ("expression", "term"),
    [
        ("image:a.jpg & 'a dog'", Term("image", "a.jpg", caption="a dog")),
        ('video:a.mp4@1s-2s&"it\'s"', Term("video", "a.mp4", span=Span(1.0, 2.0), caption="it's")),
        ("'a.jpg' & 'b'", Term(None, "a.jpg", caption="b")),
        ("image:a&b.jpg", Term("image", "a&b.jpg")),
        ("audio:a.wav@1-2.5s", Term("audio", "a.wav", span=Span(1.0, 2.5))),
        ("audio:a.wav@ 1s - 2s", Term("audio", "a.wav", span=Span(1.0, 2.0))),
        (" 2 * TEXT: a ", Term("text", "a", 2.0)),
        ("http://example.org/a.jpg", Term(None, "http://example.org/a.jpg")),
        ("+a", Term(None, "a")),
    ],
)
def test_terms_with_spans_and_captions_are_read_and_written(expression: str, term: Term) -> None:
    assert parse_query(expression).terms == (term,)
    assert parse_query(format_query([term])).terms == (term,)


@pytest.mark.parametrize(
    ("expression", "message", "position"),
    [
        ("audio:a.wav & 'a'", "only a picture or a video is joined with a text by &", 17),
        ("'a.jpg' & b", "expected a quoted text after &", 10),
        ("'a.jpg' &", "expected a quoted text after &", 9),
        ("image:a.jpg & 'b", "the quote is not closed", 14),
        ("image: ", "expected a text, a file or like:ITEM", 7),
        ("  ", "the query is empty", 0),
        ("a text: b", "expected + or - before the next term", 2),
        ("  imagee:a", "unknown prefix 'imagee' (did you mean 'image'? choose from", 2),
    ],
)
def test_errors_of_captions_and_prefixes_point_at_the_character(expression: str, message: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError, match=re.escape(message)) as caught:
        parse_query(expression)
    assert caught.value.position == position


def test_the_text_form_has_a_sign_for_every_weight() -> None:
    made = [Term("text", "a", -0.0), Term("text", "b", 2.0), Term(None, "//c", negative=True), Term("text", "-d")]
    assert format_query(made) == '-0*text:a + 2*text:b - "//c" + text:"-d"'
