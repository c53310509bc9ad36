"""`bindsearch explain`: the plan of a query and the reasons for it."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.ask import prepare_for_few_rows
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
    OnOption,
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
from bindsearch.cli.output import print_json, print_line
from bindsearch.cli.parse import read_query
from bindsearch.search.query import Ranking


def explain_command(
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
    on: OnOption = None,
    json: JsonOption = False,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Run the query and show actual rows and times next to the estimates.")
    ] = False,
) -> int:
    """Show the plan of a query: how each modality is searched, the estimated cost and the reasons.

    Takes the same options as `search`.

    Examples: bindsearch explain "a dog barking" --to image
    bindsearch explain --audio bark.wav --where "duration_s > 3" --analyze
    """
    prepare_for_few_rows()
    from bindsearch.search.explain import explain_plan, explain_run, plan_json, run_json
    from bindsearch.shards.connect import connect

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
    with connect(store, on=on, device=device) as opened:
        if analyze:
            answer = opened.answer(asked, imu_rate_hz=imu_rate)
            data, shown = run_json(answer.plan, answer.run), explain_run(answer.plan, answer.run)
        else:
            plan = opened.explain(asked)
            data, shown = plan_json(plan), explain_plan(plan)
    if json:
        print_json(data)
    else:
        for line in shown.splitlines():
            print_line(line)
    return 0
