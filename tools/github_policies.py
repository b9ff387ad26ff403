"""Writes the policies of iac/github/roles.yaml as JSON files, for other ways to create roles.

    python -m tools.github_policies FOLDER

FOLDER has roles.yaml, and gets the files. What the template fills in, such as `${StackName}` and
`${AWS::AccountId}`, stays in them and is for you to replace.
"""

import json
import sys
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]


def main() -> None:
    """Write the files. Exits with 2 if the command line is not as above."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one word
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    folder = Path(sys.argv[1])
    for name, text in policies(folder / "roles.yaml").items():
        (folder / name).write_text(text, encoding="utf-8")


def policies(template: Path) -> dict[str, str]:
    """Return the text of each policy file by its name, from the template's file."""
    resources = yaml_parse(template.read_text(encoding="utf-8"))["Resources"]
    role = {name: resources[name]["Properties"] for name in ("PlanRole", "DeployRole")}
    documents = {
        "plan-trust": role["PlanRole"]["AssumeRolePolicyDocument"],
        "plan-permissions": role["PlanRole"]["Policies"][0]["PolicyDocument"],
        "deploy-trust": role["DeployRole"]["AssumeRolePolicyDocument"],
        "deploy-permissions": resources["DeployPolicy"]["Properties"]["PolicyDocument"],
        "deploy-roles-permissions": resources["DeployRolesPolicy"]["Properties"]["PolicyDocument"],
        "deploy-cdn-permissions": resources["DeployCdnPolicy"]["Properties"]["PolicyDocument"],
        "check-permissions": resources["CheckPolicy"]["Properties"]["PolicyDocument"],
        "permissions-boundary": resources["Boundary"]["Properties"]["PolicyDocument"],
    }
    return {
        f"{name}.json": json.dumps(_plain(document), indent=2) + "\n"
        for name, document in documents.items()
    }


def _plain(node: Any) -> Any:  # noqa: PLR0911 - one per form
    """Return the node with each intrinsic function as the text that it stands for."""
    match node:
        case {"Fn::Sub": str(text)}:
            return text.replace("${Artefacts.Arn}", "arn:${AWS::Partition}:s3:::${Artefacts}")
        case {"Fn::GetAtt": ["Artefacts", "Arn"]} | {"Fn::GetAtt": "Artefacts.Arn"}:
            return "arn:${AWS::Partition}:s3:::${Artefacts}"
        case {"Fn::If": ["CreatesProvider", *_]}:
            return "${OidcProviderArn}"
        case {"Ref": name}:
            return f"${{{name}}}"
        case dict():
            return {key: _plain(value) for key, value in node.items()}
        case list():
            return [_plain(each) for each in node]
        case _:
            return node


if __name__ == "__main__":
    main()
