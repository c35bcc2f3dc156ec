#!/usr/bin/env bash
# Checks a software bill of materials against the schema of CycloneDX 1.6.
#
#   scripts/sbom_check.sh FILE [FOLDER]
#
# Installs the schema's own validator (cyclonedx-python-lib, 10 MB) into FOLDER, a Python environment (.deps/sbom).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=$1
folder=${2:-.deps/sbom}

if ! "$folder/bin/python" -c 'import cyclonedx' 2>/dev/null; then
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
fi
"$folder/bin/python" - "$file" <<'PYTHON'
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1]) as file:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
if error is not None:
    sys.exit(f"sbom: {sys.argv[1]} is not valid CycloneDX 1.6: {str(error).splitlines()[0]}")
print(f"sbom: {sys.argv[1]} is valid CycloneDX 1.6")
PYTHON
