"""`bindsearch search`: query a store."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.options import (
    Audios,
    CollectionOption,
    CopiesOption,
    Depths,
    DeviceOption,
    DiversityOption,
    Images,
    ImuRateOption,
    Imus,
    IncludeQueryOption,
    JsonOption,
    KOption,
    Likes,
    MinMatchOption,
    QueryOption,
    RankingOption,
    SinceOption,
    StoreOption,
    Texts,
    Thermals,
    ToOption,
    UnderOption,
    UntilOption,
    Videos,
    WhereOption,
    Words,
    WordSearchOption,
)
from bindsearch.cli.output import plural, print_json, print_message, print_paths
from bindsearch.cli.parse import read_query
from bindsearch.search.query import Ranking

EXIT_NO_HITS = 1


def search_command(
    words: Words = None,
    text: Texts = None,
    image: Images = None,
    video: Videos = None,
    audio: Audios = None,
    depth: Depths = None,
    thermal: Thermals = None,
    imu: Imus = None,
    like: Likes = None,
    query: QueryOption = None,
    to: ToOption = None,
    k: KOption = 10,
    ranking: RankingOption = Ranking.PROBABILITY.value,
    diversity: DiversityOption = None,
    min_match: MinMatchOption = "0",
    copies: CopiesOption = False,
    word_search: WordSearchOption = None,
    where: WhereOption = None,
    under: UnderOption = None,
    collection: CollectionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    include_query: IncludeQueryOption = False,
    imu_rate: ImuRateOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
    paths: Annotated[
        bool, typer.Option("--paths", help="Print paths only, one per line, with control characters escaped.")
    ] = False,
    print0: Annotated[
        bool, typer.Option("--print0", "-0", help="Print paths only, as they are, each ended by NUL, for xargs -0.")
    ] = False,
    flat: Annotated[bool, typer.Option("--flat", help="List all hits, weak ones of other kinds, too.")] = False,
) -> int:
    """Search with a text, files, or a weighted sum of several. Options are combined into one query.

    Examples: bindsearch search "a dog barking"
    bindsearch search --audio bark.wav --to image,video --where "modified > '2024-01-01'"
    bindsearch search --query '0.5*image:fruit.jpg + 0.5*audio:birds.wav' --to image
    """
    from bindsearch.cli.hits import print_hits, searched_in
    from bindsearch.errors import UsageError
    from bindsearch.results import missing_paths
    from bindsearch.store import connect
    from bindsearch.views.answer_data import answer_data

    if json + paths + print0 > 1:
        raise UsageError("--json, --paths and --print0 exclude each other: choose one")
    asked = read_query(
        words=words,
        text=text,
        image=image,
        video=video,
        audio=audio,
        depth=depth,
        thermal=thermal,
        imu=imu,
        like=like,
        query=query,
        to=to,
        k=k,
        ranking=ranking,
        diversity=diversity,
        min_match=min_match,
        copies=copies,
        word_search=word_search,
        where=where,
        under=under,
        collection=collection,
        since=since,
        until=until,
        include_query=include_query,
    )
    with connect(store, device=device) as opened:
        answer = opened.answer(asked, imu_rate_hz=imu_rate)
    if json:
        print_json(answer_data(answer))
    elif paths or print0:
        print_paths((hit.path for hit in answer.hits), end_with_nul=print0)
    else:
        print_hits(answer, flat=flat)
    if (paths or print0) and (gone := missing_paths(answer.hits)):
        print_message(f"note: {plural(len(gone), 'file')} of these {'is' if len(gone) == 1 else 'are'} no longer there")
    for notice in answer.notices:
        print_message(f"note: {notice}")
    if not answer.hits:
        print_message(f"no hits: searched {searched_in(answer)} of {', '.join(answer.to)}")
        return EXIT_NO_HITS
    return 0
