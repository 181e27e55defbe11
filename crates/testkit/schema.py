"""Validates documents against the JSON Schemas of the OCI image specification.

    schema.py DIRECTORY (SCHEMA FILE)…      fails with what is wrong with a file
    schema.py DIRECTORY --cases FILE        checks this program itself; prints how many cases there are

DIRECTORY holds the schemas, which refer to each other by file name. FILE of --cases is a list of
documents, each with the schema that it belongs to and whether that accepts it.
"""

import base64
import json
import pathlib
import re
import sys

import jsonschema


def load(directory):
    """The schemas by file name; each finds the others by that name."""
    schemas = {path.name: json.loads(path.read_text()) for path in directory.glob("*.json")}
    # An `id` is a base for references, and these point to where nobody has the other files.
    for schema in schemas.values():
        remove_ids(schema)
    return schemas


def remove_ids(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("id"), str):
            del schema["id"]
        for value in schema.values():
            remove_ids(value)
    elif isinstance(schema, list):
        for value in schema:
            remove_ids(value)


def problem(schemas, name, text):
    """What is wrong with the document, or None."""
    try:
        document = json.loads(text)
    except ValueError as error:
        return str(error)
    resolver = jsonschema.RefResolver("", schemas[name], store=schemas)
    validator = jsonschema.Draft4Validator(schemas[name], resolver=resolver)
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    return f"{error.json_path}: {error.message}" if error else problem_in_words(document)


# What the specification says in words alone.
RULES = {
    "digest": lambda digest: re.fullmatch(r"(?!sha256:)[^:]+:.+|sha256:[0-9a-f]{64}", digest),
    "urls": lambda urls: all("://" in url for url in urls),
    "data": lambda data: base64.b64decode(data, validate=True),
    "Env": lambda env: all("=" in variable for variable in env),
}


def problem_in_words(document):
    if not isinstance(document, (dict, list)):
        return None
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        try:
            is_legal = key not in RULES or RULES[key](value)
        except ValueError:
            is_legal = False
        found = problem_in_words(value) if is_legal else "not legal"
        if found:
            return f"{key}: {found}"
    return None


def main(directory, *words):
    schemas = load(pathlib.Path(directory))
    if words[0] == "--cases":
        cases = json.loads(pathlib.Path(words[1]).read_text())
        for case in cases:
            found = problem(schemas, case["schema"], case["document"])
            if (found is None) != case["valid"]:
                sys.exit(f"{case['schema']}: {found or 'accepted'}\n{case['document']}")
        print(len(cases))
        return
    for name, path in zip(words[::2], words[1::2], strict=True):
        found = problem(schemas, name, pathlib.Path(path).read_bytes())
        if found:
            sys.exit(f"{path} is no {name}: {found}")


main(*sys.argv[1:])
