"""Judges JSON by JSON Schema (2020-12): reads one question on stdin, writes what is wrong with each case to stdout."""

import json
import re
import sys

from jsonschema import Draft202012Validator, FormatChecker

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
formats = FormatChecker(formats=())


@formats.checks("date-time")
def is_time(value):
    return not isinstance(value, str) or TIME.match(value) is not None


def wrong(schema, value):
    found = Draft202012Validator(schema, format_checker=formats).iter_errors(value)
    return ["/" + "/".join(map(str, error.absolute_path)) + ": " + error.message[:400] for error in found]


def checked(schema):
    try:
        Draft202012Validator.check_schema(schema)
        return []
    except Exception as error:
        return [str(error)[:400]]


question = json.load(sys.stdin)
# References lead into the components, wherever the schema itself stands.
around = question["around"]
answers = {}
for case in question["cases"]:
    if "value" in case:
        answers[case["name"]] = wrong({**case["schema"], **around}, case["value"])
    else:
        answers[case["name"]] = checked(case["schema"])
json.dump(answers, sys.stdout)
