#!/usr/bin/env python3
"""Reads the dashboard for packaging/prometheus/check, which promtool cannot.

	dashboard.py layout DASHBOARD               is it sound, and does it fit the screen?
	dashboard.py expressions DASHBOARD          print its expressions as a file of rules
	dashboard.py names DASHBOARD PAGE FILE...   does PAGE, of GET /metrics, have all metrics and labels that it and
	                                            the FILEs name?

Faults are told on standard output; the exit code is 1 if there are any. It does not know what Grafana draws.
"""

import itertools
import json
import pathlib
import re
import sys

WIDTH = 24  # columns of Grafana's grid
PANELS = {"row", "stat", "timeseries", "state-timeline", "heatmap", "bargauge", "table"}
# What Grafana puts in place of variables, or something alike.
VALUES = {"$__rate_interval": "5m", "$instance": ".*", "$upstream": ".*", "$job": "dnsproxy"}
METRIC = re.compile(r"(?<![\w:$])(?:dnsproxy|process|go)_[a-z0-9_]+(?![\w:])")
SELECTOR = re.compile(r"([a-z][a-z0-9_]*)\{([^{}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"((?:[^"\\]|\\.)*)"')
# Labels that Prometheus adds, and one that the daemon has for histograms only.
FOREIGN = {"job", "instance", "le"}
# Why a session ended: the page has those that occurred.
SPARSE = {"why"}


def unique(pairs):
    """An object, whose keys may stand in it once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice: {[k for k, _ in pairs]}")
    return found


def read(path):
    return json.loads(pathlib.Path(path).read_text(), object_pairs_hook=unique)


def targets(dashboard):
    """Title, expression and legend of all that is asked for, those of annotations and variables too."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target.get("legendFormat", "")
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], ""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inner, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            yield variable["name"], f"group by ({label}) ({inner})", ""


def plain(expr):
    for name, value in VALUES.items():
        expr = expr.replace(name, value)
    return expr


def grid_faults(panels):
    for p in panels:
        g = p["gridPos"]
        if min(g["w"], g["h"]) < 1 or min(g["x"], g["y"]) < 0 or g["x"] + g["w"] > WIDTH:
            yield f'"{p["title"]}" is not on the screen'
    for a, b in itertools.combinations(panels, 2):
        g, h = a["gridPos"], b["gridPos"]
        if g["x"] < h["x"] + h["w"] and h["x"] < g["x"] + g["w"] and g["y"] < h["y"] + h["h"] and h["y"] < g["y"] + g["h"]:
            yield f'"{a["title"]}" and "{b["title"]}" overlap'
    area = sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in panels)
    if area != WIDTH * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels):
        yield "there are gaps between panels, which Grafana closes by moving them"
    order = [(p["gridPos"]["y"], p["gridPos"]["x"]) for p in panels]
    if order != sorted(order):
        yield "panels do not stand in the order in which they are seen"


def panel_faults(panel):
    if panel["type"] not in PANELS:
        yield f'is a {panel["type"]}: is that of Grafana itself?'
    if panel["type"] == "row":
        return
    if not panel.get("description", "").endswith("."):
        yield "has no description"
    if "unit" not in panel["fieldConfig"]["defaults"]:
        yield "has no unit"
    refs = [t["refId"] for t in panel["targets"]]
    if not refs or len(refs) != len(set(refs)):
        yield f"asks for {refs}"
    for target in panel["targets"]:
        if target["instant"] == target["range"]:
            yield f'{target["refId"]} is both instant and range, or neither'


def source_faults(node, path="dashboard"):
    """Data sources are chosen by whoever imports the dashboard."""
    if isinstance(node, list):
        for i, child in enumerate(node):
            yield from source_faults(child, f"{path}[{i}]")
    elif isinstance(node, dict):
        if "datasource" in node and node["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"{path} has a data source of its own"
        for key, child in node.items():
            yield from source_faults(child, f"{path}.{key}")


def expression_faults(dashboard):
    defined = {v["name"] for v in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) - {"__rate_interval", "__all"}
    if defined != used:
        yield f"variables {sorted(defined)} are defined, {sorted(used)} are used"
    for title, expr, legend in targets(dashboard):
        # Each series of Prometheus' is that of one job and instance, which the reader chooses.
        variable = title in defined
        for name in METRIC.findall(expr):
            matched = dict((label, value) for label, _, value in MATCHER.findall(expr.partition(name)[2].partition("}")[0]))
            if not variable and (matched.get("job"), matched.get("instance")) != ("$job", "$instance"):
                yield f'"{title}": {name} of all jobs and instances'
        by = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expr))))
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        if by and not shown <= by:
            yield f'"{title}": the legend shows {sorted(shown - by)}, which the expression adds up'


def layout(path):
    dashboard = read(path)
    panels = dashboard["panels"]
    ids = [p["id"] for p in panels]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    if pathlib.Path(path).read_text() != json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n":
        yield "it is not indented by two blanks"
    yield from grid_faults(panels)
    for panel in panels:
        yield from (f'"{panel["title"]}" {fault}' for fault in panel_faults(panel))
    yield from source_faults(dashboard)
    yield from expression_faults(dashboard)


def expressions(path):
    rules = [{"record": f"target_{i}", "expr": plain(expr)} for i, (_, expr, _) in enumerate(targets(read(path)))]
    # YAML is a superset of JSON.
    print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}, indent=1))
    return []


def exported(page):
    """The labels of each metric on the page: histograms have three metrics for each family."""
    known = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M):
        for metric in [name] if kind != "histogram" else [name + end for end in ("_bucket", "_sum", "_count")]:
            known[metric] = {}
    for name, labels in re.findall(r"^([a-z0-9_]+)\{(.*)\} \S+$", page, re.M):
        for label, _, value in MATCHER.findall(labels):
            known[name].setdefault(label, set()).add(value)
    return known


def label_faults(text, known):
    for name, matchers in SELECTOR.findall(text):
        if not known.get(name):
            continue  # not the daemon's, without labels, or not on the page now
        for label, operator, value in MATCHER.findall(matchers):
            if label in FOREIGN or "$" in value:
                continue
            if label not in known[name]:
                yield f"{name} has no label {label}"
            elif label not in SPARSE | {"upstream", "address"} and operator in ("=", "=~"):
                wanted = value.split("|") if operator == "=~" else [value]
                yield from (f'{name} has no {label}="{v}"' for v in wanted if v not in known[name][label])


def names(path, page, *files):
    known = exported(pathlib.Path(page).read_text())
    texts = {path: "\n".join(expr for _, expr, _ in targets(read(path)))}
    texts |= {file: pathlib.Path(file).read_text() for file in files}
    for file, text in texts.items():
        for name in sorted(set(METRIC.findall(text)) - known.keys()):
            yield f"{file}: no daemon has {name}"
        yield from (f"{file}: {fault}" for fault in sorted(set(label_faults(text, known))))


def main(commands, arguments):
    if not arguments or arguments[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    faults = list(commands[arguments[0]](*arguments[1:]))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main({"layout": layout, "expressions": expressions, "names": names}, sys.argv[1:]))
