"""`bindsearch explain`: the plan of a query and the reasons for it."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.ask import prepare_for_few_rows
from bindsearch.cli.options import option
from bindsearch.cli.output import print_json, print_line
from bindsearch.cli.parse import read_query


def explain_command(
    words: opts.Words = None,
    *,
    options: opts.QueryOptions,
    imu_rate: opts.ImuRateOption = None,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    json: opts.JsonOption = False,
    analyze: Annotated[
        bool, option("--analyze", "Run the query and show actual rows and times next to the estimates.")
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

    asked = read_query(words, options)
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
