"""What index a partition gets."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.errors import UsageError
from bindsearch.indexes.parameters import GPU_SUBQUANTIZERS, choose_parameters
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings


def test_few_rows_are_searched_exactly_and_many_are_coded() -> None:
    assert choose_parameters(4096, 1024, IndexSettings()).form == IndexForm.EXACT
    assert choose_parameters(4097, 1024, IndexSettings()).form == IndexForm.IVF_PQ
    assert choose_parameters(10_000, 384, IndexSettings()).form == IndexForm.EXACT


def test_a_form_can_be_forced_at_any_size() -> None:
    assert choose_parameters(10**7, 1024, IndexSettings(form=IndexForm.EXACT)).form == IndexForm.EXACT
    assert choose_parameters(1, 1024, IndexSettings(form=IndexForm.IVF_PQ)) == IndexParameters(
        IndexForm.IVF_PQ, reduced_dim=768, subquantizers=384, bits=4, lists=1, train_rows=1
    )


def test_the_measured_settings_of_420k_pictures_are_chosen() -> None:
    assert choose_parameters(420_000, 1024, IndexSettings()) == IndexParameters(
        IndexForm.IVF_PQ, reduced_dim=512, subquantizers=256, bits=4, lists=648, train_rows=82_944
    )


def test_lists_grow_with_the_rows_but_k_means_stays_affordable() -> None:
    lists = [choose_parameters(n, 1024, IndexSettings()).lists for n in (99_999, 100_000, 10**6, 4 * 10**6, 10**8)]
    assert lists == [1, 316, 1000, 2828, 4096]


def test_a_gpu_gets_codes_that_it_can_search() -> None:
    for dim in (64, 100, 384, 512, 768, 1024):
        parameters = choose_parameters(100_000, dim, IndexSettings(), gpu=True)
        assert (parameters.form, parameters.bits) == (IndexForm.IVF_PQ8, 8)
        assert parameters.subquantizers in GPU_SUBQUANTIZERS
    assert (parameters.reduced_dim, parameters.subquantizers) == (512, 64)


@given(
    st.integers(1, 10**8),
    st.integers(1, 2048),
    st.sampled_from([form for form in IndexForm if form is not IndexForm.EXACT]),
    st.one_of(st.none(), st.integers(1, 10**10)),
)
def test_parameters_always_fit_each_other_and_the_memory(n: int, dim: int, form: IndexForm, memory: int | None) -> None:
    try:
        chosen = choose_parameters(n, dim, IndexSettings(form=form, memory_bytes=memory))
    except UsageError as error:
        assert memory is not None
        least = int(str(error).rsplit(" ", 1)[1])
        assert least > memory
        assert choose_parameters(n, dim, IndexSettings(form=form, memory_bytes=least)).form == form
        return
    assert 1 <= chosen.reduced_dim <= dim
    assert chosen.reduced_dim % chosen.subquantizers == 0
    assert 1 <= chosen.lists <= chosen.train_rows <= n
    assert memory is None or n * (chosen.code_bytes + 8) <= memory


def test_a_small_partition_takes_as_many_lists_as_it_has_rows() -> None:
    chosen = choose_parameters(3, 128, IndexSettings(form=IndexForm.IVF_PQ, overrides={"lists": 512}))
    assert (chosen.lists, chosen.train_rows) == (3, 3)


def test_less_memory_gives_shorter_codes_step_by_step() -> None:
    steps = []
    for code_bytes in (128, 127, 95, 63, 47, 31, 16):
        chosen = choose_parameters(10**6, 1024, IndexSettings(memory_bytes=10**6 * (code_bytes + 8)))
        steps.append((chosen.reduced_dim, chosen.subquantizers))
    assert steps == [(512, 256), (384, 192), (512, 128), (384, 96), (512, 64), (384, 48), (512, 32)]


def test_too_little_memory_tells_the_least_that_would_do() -> None:
    message = "1000 bytes of memory are too few for an index of 100000 rows: the minimum is 2000000"
    with pytest.raises(UsageError, match=message):
        choose_parameters(100_000, 1024, IndexSettings(memory_bytes=1000))


def test_overrides_are_taken() -> None:
    settings = IndexSettings(
        overrides={"reduced_dim": 96, "subquantizers": 24, "lists": 7, "train_rows": 500, "seed": 3}
    )
    assert choose_parameters(100_000, 128, settings) == IndexParameters(IndexForm.IVF_PQ, 96, 24, 4, 7, 500, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"nlist": 3},
            r"'nlist' is not an index parameter: did you mean 'lists'\? choose from reduced_dim, subquantizers",
        ),
        ({"lists": 0}, "lists=0 is out of range: give an integer of at least 1"),
        ({"seed": -1}, "seed=-1 is out of range: give an integer of at least 0"),
        ({"bits": 8}, "bits=8 is not possible: codes of the form ivfpq have 4 bits"),
        ({"reduced_dim": 129}, "reduced_dim=129 is more than the 128 dimensions of the vectors"),
        ({"subquantizers": 100}, "subquantizers=100 does not divide the 128 reduced dimensions"),
        ({"lists": 600, "train_rows": 500}, "lists=600 is more than train_rows=500"),
    ],
)
def test_overrides_that_cannot_be_are_refused_by_name(overrides: Mapping[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_parameters(50_000, 128, IndexSettings(overrides=overrides))
