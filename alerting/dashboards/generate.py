#!/usr/bin/env python3
"""Makes the dashboards beside it: `generate.py` writes them, `generate.py --check` says whether they are current.

Grafana's JSON repeats the same thirty lines for each panel; what differs stands here. In a query, `@` is the selection
of job and instance, `@RUNBOOK` that and the runbook, `~` the range that Grafana chooses for rates.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
WIDTH = 24
SELECTIONS = {
    "@RUNBOOK": 'job=~"$job", instance=~"$instance", runbook=~"$runbook"',
    "@": 'job=~"$job", instance=~"$instance"',
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def query(short):
    """The query that `short` stands for."""
    for word, selection in SELECTIONS.items():
        short = short.replace(word, selection)
    return short.replace("~]", "$__rate_interval]")


def targets(queries):
    return [
        {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query(short),
            "legendFormat": legend,
            "range": True,
            "refId": chr(ord("A") + number),
        }
        for number, (legend, short) in enumerate(queries.items())
    ]


def panel(kind, title, description, unit, queries, width, height, defaults, options):
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        "gridPos": {"w": width, "h": height},
        "options": options,
        "targets": targets(queries),
    }


def graph(title, description, unit, queries, width=8, top=None, stacked=False):
    """Lines over time, one for each series."""
    custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
    if stacked:
        custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
    defaults = {"min": 0, "custom": custom}
    if top is not None:
        defaults["max"] = top
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, unit, queries, width, 8, defaults, options)


def number(title, description, unit, short, bad=None, words=None, width=4, name=None):
    """The last value, large; red from `bad` on, with words instead of some values."""
    steps = [{"color": "green", "value": None}]
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    defaults = {"decimals": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if words:
        texts = {value: {"index": at, "text": text} for at, (value, text) in enumerate(words.items())}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    options = {
        "colorMode": "background" if bad is not None else "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if name else "value",
    }
    return panel("stat", title, description, unit, {name or "": short}, width, 4, defaults, options)


def quantiles(family, by="", selection="@"):
    """The median, the slow and the slowest of a histogram."""
    grouped = f"sum by ({'le, ' + by if by else 'le'}) (rate({family}_bucket{{{selection}}}[~]))"
    label = "{{" + by + "}} " if by else ""
    return {f"{label}p{q}": f"histogram_quantile(0.{q}, {grouped})" for q in ("50", "95", "99")}


def a_minute(family, by, more="", selection="@"):
    """How often a minute, by a label."""
    return f"60 * sum by ({by}) (rate({family}{{{selection}{more}}}[~]))"


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


def arranged(panels):
    """Panels from left to right and from top to bottom, each with its place and its number."""
    x = y = height = 0
    for at, one in enumerate(panels):
        place = one["gridPos"]
        if x + place["w"] > WIDTH or one["type"] == "row":
            x, y, height = 0, y + height, 0
        place |= {"x": x, "y": y}
        x, height = x + place["w"], max(height, place["h"])
        one["id"] = at + 1
    return panels


def variable(name, label, values):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": values, "refId": name},
        "definition": values,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def mark(name, color, title, short, at_value=False):
    """A line over all graphs at each moment at which the query has a series."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": query(short),
        "titleFormat": title,
        "useValueForTime": at_value,
    }


MARKS = [
    mark("Starts", "blue", "{{instance}} started", "1000 * runbookd_start_time_seconds{@}", at_value=True),
    mark(
        "Failed rollbacks",
        "red",
        "{{runbook}} could not undo what it did",
        'sum by (runbook) (increase(runbookd_rollbacks_total{@, outcome="rollback_failed"}[~])) > 0',
    ),
]


def dashboard(name, title, description, panels, *more):
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
    }
    family = "runbookd_build_info"
    variables = [
        datasource,
        variable("job", "Job", f"label_values({family}, job)"),
        variable("instance", "Instance", f'label_values({family}{{job=~"$job"}}, instance)'),
        *more,
    ]
    links = {"type": "dashboards", "title": "runbookd", "tags": ["runbookd"], "asDropdown": True}
    return {
        "uid": f"runbookd-{name}",
        "title": f"runbookd / {title}",
        "description": description,
        "tags": ["runbookd"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [links | {"includeVars": True, "keepTime": True}],
        "annotations": {"list": MARKS},
        "templating": {"list": variables},
        "panels": arranged(panels),
    }


OVERVIEW = dashboard(
    "overview",
    "Overview",
    "What runbookd is doing, and whether it is well: webhooks in, decisions, executions out.",
    [
        row("Now"),
        number(
            "Instances up",
            "How many instances answer Prometheus.",
            "short",
            "sum(up{@})",
        ),
        number(
            "Kill switch",
            "Orders that hold automation back, of every scope. Each one that was forgotten is an outage.",
            "short",
            "sum(runbookd_kill_switch_active{@})",
            bad=1,
            words={"0": "off"},
        ),
        number(
            "Storm",
            "Whether so many episodes begin that nothing is started.",
            "short",
            "max(runbookd_storm_active{@})",
            bad=1,
            words={"0": "no", "1": "storm"},
        ),
        number(
            "In progress",
            "Executions that run, prove or undo something at this moment.",
            "short",
            'sum(runbookd_executions_active{@, status=~"running|verifying|rolling_back"})',
        ),
        number(
            "In the queue",
            "Executions that wait for a slot or for their target.",
            "short",
            "sum(runbookd_queue_length{@})",
        ),
        number(
            "Wait for consent",
            "Executions that do nothing until a person approves or rejects them.",
            "short",
            "sum(runbookd_approvals_pending{@})",
            bad=1,
        ),
        number(
            "Last webhook",
            "How long ago the last webhook was accepted. With the heartbeat it stays below 6 minutes.",
            "s",
            "time() - max(runbookd_last_webhook_timestamp_seconds{@})",
            bad=900,
        ),
        number(
            "Quarantined targets",
            "Targets on which a rollback failed, and which wait for a person.",
            "short",
            "sum(runbookd_quarantined_targets{@})",
            bad=1,
        ),
        number(
            "Breakers open",
            "Pairs of a runbook and a target that are kept apart because it failed there too often.",
            "short",
            'sum(runbookd_breakers{@, state="open"})',
            bad=1,
        ),
        number(
            "Config",
            "Whether the files on the disk are those in force.",
            "short",
            "min(runbookd_config_last_reload_successful{@})",
            words={"0": "bad file", "1": "good"},
        ),
        number(
            "Up for",
            "Time since the youngest instance started.",
            "s",
            "time() - max(runbookd_start_time_seconds{@})",
        ),
        number(
            "Version",
            "What runs; two of them only while it is being replaced.",
            "short",
            "sum by (version, revision) (runbookd_build_info{@})",
            name="{{version}} {{revision}}",
        ),
        row("Webhook"),
        graph(
            "Webhook requests",
            "Requests a minute, by answer. Anything but 200 comes again.",
            "opm",
            {"{{code}}": a_minute("runbookd_webhook_requests_total", "code")},
            stacked=True,
        ),
        graph(
            "Webhook errors",
            "The share of requests that were not answered with 200.",
            "percentunit",
            {
                "errors": 'sum(rate(runbookd_webhook_requests_total{@, code!~"2.."}[~]))'
                " / sum(rate(runbookd_webhook_requests_total{@}[~]))"
            },
            top=1,
        ),
        graph(
            "Time to answer a webhook",
            "The disk included. Alertmanager gives up after 10 seconds, or its group_interval.",
            "s",
            quantiles("runbookd_webhook_duration_seconds"),
        ),
        graph(
            "Alerts received",
            "Elements of webhooks a minute, by their own status.",
            "opm",
            {"{{status}}": a_minute("runbookd_alerts_received_total", "status")},
            width=12,
            stacked=True,
        ),
        graph(
            "Decisions",
            "What was decided about them, a minute. Which code it was is on the dashboard of the guardrails.",
            "opm",
            {"{{verdict}}": a_minute("runbookd_decisions_total", "verdict")},
            width=12,
            stacked=True,
        ),
        row("Executions"),
        graph(
            "Executions that ended",
            "A minute, by final status.",
            "opm",
            {"{{outcome}}": a_minute("runbookd_executions_total", "outcome")},
            stacked=True,
        ),
        graph(
            "Executions without success",
            "The share that ended as anything but succeeded.",
            "percentunit",
            {
                "no success": 'sum(rate(runbookd_executions_total{@, outcome!="succeeded"}[~]))'
                " / sum(rate(runbookd_executions_total{@}[~]))"
            },
            top=1,
        ),
        graph(
            "Time of an execution",
            "From its creation to its end, of all runbooks.",
            "s",
            quantiles("runbookd_execution_duration_seconds"),
        ),
        graph(
            "Executions that have not ended",
            "By status.",
            "short",
            {"{{status}}": "sum by (status) (runbookd_executions_active{@})"},
            stacked=True,
        ),
        graph(
            "Reaction",
            "From receiving a webhook to the start of the first step.",
            "s",
            quantiles("runbookd_reaction_seconds"),
        ),
        graph(
            "Age of the queue",
            "How long the oldest execution in the queue has waited; at automation.queue_deadline it expires.",
            "s",
            {"{{instance}}": "max by (instance) (runbookd_queue_oldest_age_seconds{@})"},
        ),
        graph(
            "Time to remediation",
            "From the alert's startsAt to the proof that it is over.",
            "s",
            quantiles("runbookd_time_to_remediation_seconds"),
            width=12,
        ),
        graph(
            "People told",
            "Messages a minute, by what became of them. Failed and dropped ones nobody has read.",
            "opm",
            {"{{outcome}}": a_minute("runbookd_escalations_total", "outcome")},
            width=12,
            stacked=True,
        ),
    ],
)

RUNBOOK = dashboard(
    "runbook",
    "Runbook",
    "How one runbook does, or some: how often, how long, how well.",
    [
        graph(
            "Executions that ended",
            "A minute, by final status.",
            "opm",
            {"{{runbook}} {{outcome}}": a_minute("runbookd_executions_total", "runbook, outcome", "", "@RUNBOOK")},
            stacked=True,
        ),
        graph(
            "Success",
            "The share of executions that succeeded.",
            "percentunit",
            {
                "{{runbook}}": 'sum by (runbook) (rate(runbookd_executions_total{@RUNBOOK, outcome="succeeded"}[~]))'
                " / sum by (runbook) (rate(runbookd_executions_total{@RUNBOOK}[~]))"
            },
            top=1,
        ),
        graph(
            "Not verified",
            "Executions a minute whose steps succeeded and whose proof did not come: the steps may be the wrong ones.",
            "opm",
            {
                "{{runbook}}": a_minute(
                    "runbookd_executions_total", "runbook", ', outcome="not_verified"', "@RUNBOOK"
                )
            },
        ),
        graph(
            "Time of an execution",
            "From its creation to its end, the time in the queue included.",
            "s",
            quantiles("runbookd_execution_duration_seconds", "runbook", "@RUNBOOK"),
            width=12,
        ),
        graph(
            "Time to remediation",
            "From the alert's startsAt to the proof that it is over.",
            "s",
            quantiles("runbookd_time_to_remediation_seconds", "runbook", "@RUNBOOK"),
            width=12,
        ),
        graph(
            "Steps that ended",
            "A minute, by kind and outcome.",
            "opm",
            {"{{kind}} {{outcome}}": a_minute("runbookd_steps_total", "kind, outcome", "", "@RUNBOOK")},
            width=12,
            stacked=True,
        ),
        graph(
            "Further attempts",
            "Retries of steps and undos a minute; many mean a dependency that is not well.",
            "opm",
            {"{{runbook}}": a_minute("runbookd_step_retries_total", "runbook", "", "@RUNBOOK")},
            width=12,
        ),
        graph(
            "Rollbacks",
            "A minute, by how they ended. Each rollback_failed needs a person.",
            "opm",
            {"{{runbook}} {{outcome}}": a_minute("runbookd_rollbacks_total", "runbook, outcome", "", "@RUNBOOK")},
            width=12,
        ),
        graph(
            "Breakers",
            "Targets on which the runbook is kept back (open), or tried again (half_open).",
            "short",
            {"{{runbook}} {{state}}": "sum by (runbook, state) (runbookd_breakers{@RUNBOOK})"},
            width=12,
        ),
    ],
    variable(
        "runbook",
        "Runbook",
        'label_values(runbookd_executions_total{job=~"$job", instance=~"$instance"}, runbook)',
    ),
)

GUARDRAILS = dashboard(
    "guardrails",
    "Guardrails",
    "What runbookd does not do, and why: decisions by code, breakers, storm, quarantine, kill switch, limits.",
    [
        graph(
            "Decisions by code",
            "A minute, those against an execution. SRE.md has a line for each code.",
            "opm",
            {"{{reason}}": a_minute("runbookd_decisions_total", "reason", ', verdict="skip"')},
            width=16,
            stacked=True,
        ),
        graph(
            "Denied",
            "The share of decisions that started nothing, repeats and resolved alerts left out.",
            "percentunit",
            {
                "denied": 'sum(rate(runbookd_decisions_total{@, verdict="skip", reason!~"repeat|resolved"}[~]))'
                ' / sum(rate(runbookd_decisions_total{@, reason!~"repeat|resolved"}[~]))'
            },
            top=1,
        ),
        graph(
            "Mistakes in rules and runbooks",
            "Decisions a minute that only a change of a file can turn.",
            "opm",
            {
                "{{reason}}": a_minute(
                    "runbookd_decisions_total",
                    "reason",
                    ', reason=~"invalid_alert|unknown_runbook|not_allowed|invalid_input|invalid_target"',
                )
            },
            width=12,
        ),
        graph(
            "Kill switch",
            "Orders that stand, by the sort of what they cover.",
            "short",
            {"{{scope}}": "sum by (scope) (runbookd_kill_switch_active{@})"},
            width=12,
        ),
        graph(
            "Breakers that are not closed",
            "By runbook and state.",
            "short",
            {"{{runbook}} {{state}}": "sum by (runbook, state) (runbookd_breakers{@})"},
        ),
        graph(
            "Named breakers",
            "Those whose key is written out in a runbook: 1 closed, 2 open, 3 half-open.",
            "short",
            {"{{breaker}}": "max by (breaker) (runbookd_breaker_state{@})"},
        ),
        graph(
            "Storm",
            "1 while so many episodes begin that nothing is started.",
            "short",
            {"{{instance}}": "max by (instance) (runbookd_storm_active{@})"},
            top=1,
        ),
        graph(
            "Quarantined targets",
            "Targets on which a rollback failed, and which wait for a person.",
            "short",
            {"{{instance}}": "max by (instance) (runbookd_quarantined_targets{@})"},
        ),
        graph(
            "Wait for consent",
            "Executions that do nothing until a person approves or rejects them.",
            "short",
            {"{{instance}}": "max by (instance) (runbookd_approvals_pending{@})"},
        ),
        graph(
            "People told",
            "Messages a minute, by notifier and what became of them.",
            "opm",
            {"{{notifier}} {{outcome}}": a_minute("runbookd_escalations_total", "notifier, outcome")},
            stacked=True,
        ),
        graph(
            "Refused for their number",
            "Requests a minute of people and programs that asked too often, by route. Webhooks are never limited.",
            "opm",
            {"{{route}}": a_minute("runbookd_http_rate_limited_total", "route")},
        ),
        graph(
            "Refused for who sent them",
            "Requests a minute, by what was wrong with the credential.",
            "opm",
            {"{{reason}}": a_minute("runbookd_auth_failures_total", "reason")},
        ),
        graph(
            "Audit records not written",
            "A minute. While there are any, changes by people are refused.",
            "opm",
            {"{{instance}}": a_minute("runbookd_audit_write_failures_total", "instance")},
        ),
    ],
)

INTERNALS = dashboard(
    "internals",
    "Internals",
    "The machine below: commits, store, process, requests, config.",
    [
        row("Store"),
        graph(
            "Time of a commit",
            "One batch made durable: the health of the disk.",
            "s",
            quantiles("runbookd_journal_commit_duration_seconds"),
        ),
        graph(
            "Commits",
            "Batches made durable a second, and units of work in them.",
            "ops",
            {
                "batches": "sum(rate(runbookd_journal_commit_batch_size_count{@}[~]))",
                "units of work": "sum(rate(runbookd_journal_commit_batch_size_sum{@}[~]))",
            },
        ),
        graph(
            "Size of a batch",
            "Units of work that became durable together, on average. It grows when the disk is the limit.",
            "short",
            {
                "average": "sum(rate(runbookd_journal_commit_batch_size_sum{@}[~]))"
                " / sum(rate(runbookd_journal_commit_batch_size_count{@}[~]))"
            },
        ),
        graph(
            "Store",
            "What it takes on the disk.",
            "bytes",
            {"{{instance}}": "sum by (instance) (runbookd_store_size_bytes{@})"},
        ),
        graph(
            "Time of a step",
            "In all its attempts, the slowest of twenty, by kind.",
            "s",
            {
                "{{kind}}": "histogram_quantile(0.95,"
                " sum by (le, kind) (rate(runbookd_step_duration_seconds_bucket{@}[~])))"
            },
        ),
        graph(
            "Queue",
            "Executions in it; at automation.queue_limit webhooks get 503.",
            "short",
            {"{{instance}}": "max by (instance) (runbookd_queue_length{@})"},
        ),
        row("Process"),
        graph(
            "CPU",
            "Cores in use.",
            "short",
            {"{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total{@}[~]))"},
        ),
        graph(
            "Memory",
            "Resident.",
            "bytes",
            {"{{instance}}": "sum by (instance) (process_resident_memory_bytes{@})"},
        ),
        graph(
            "File descriptors",
            "The share of those it may open.",
            "percentunit",
            {"{{instance}}": "max by (instance) (process_open_fds{@} / process_max_fds{@})"},
            top=1,
        ),
        graph(
            "Threads",
            "Of the process; programs that steps run are not among them.",
            "short",
            {"{{instance}}": "max by (instance) (process_threads{@})"},
        ),
        graph(
            "Age of the config",
            "How long ago config and runbooks were last read without a problem.",
            "s",
            {"{{instance}}": "time() - max by (instance) (runbookd_config_last_reload_success_timestamp_seconds{@})"},
        ),
        graph(
            "Config in force",
            "1 while the files on the disk are those in force, 0 while one of them cannot be used.",
            "short",
            {"{{instance}}": "min by (instance) (runbookd_config_last_reload_successful{@})"},
            top=1,
        ),
        row("HTTP"),
        graph(
            "Requests",
            "A minute, by route; (unmatched) is what leads nowhere.",
            "opm",
            {"{{route}}": a_minute("runbookd_http_requests_total", "route")},
            stacked=True,
        ),
        graph(
            "Answers",
            "A minute, by status code.",
            "opm",
            {"{{code}}": a_minute("runbookd_http_requests_total", "code")},
            stacked=True,
        ),
        graph(
            "Time to answer",
            "The slowest of a hundred, by route. An event stream lasts as long as its reader stays.",
            "s",
            {
                "{{route}}": "histogram_quantile(0.99,"
                " sum by (le, route) (rate(runbookd_http_request_duration_seconds_bucket{@}[~])))"
            },
        ),
    ],
)


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(f"usage: {sys.argv[0]} [--check]")
    stale = []
    for one in (OVERVIEW, RUNBOOK, GUARDRAILS, INTERNALS):
        path = HERE / (one["uid"].removeprefix("runbookd-") + ".json")
        text = json.dumps(one, indent=2, ensure_ascii=False) + "\n"
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"not what generate.py makes: {', '.join(stale)}; run it, and commit what it writes")


if __name__ == "__main__":
    main()
