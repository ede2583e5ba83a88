"""The workflows' permissions and secrets, and the scripts of CI."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import ROOT
from tests.web import Handler, serving

GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in sorted((GITHUB / "workflows").iterdir())}
SCRIPTS = [*sorted((ROOT / ".ci").iterdir()), *(GITHUB / name for name in ("as-root", "install-pulumi", "run-stack"))]
STACKS: list[str] = json.loads((GITHUB / "members.json").read_text(encoding="utf-8"))

CREDENTIALS = {
    "ARM_CLIENT_ID": "client",
    "ARM_TENANT_ID": "tenant",
    "ARM_SUBSCRIPTION_ID": "subscription",
    "PULUMI_BACKEND_URL": "azblob://state?storage_account=bank",
}
TOKEN_REQUEST = {
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://tokens.example/?api=1",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "bearer-of-the-job",
}


def load(name: str) -> dict[str | bool, Any]:
    return yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))


DEFINED = {f"{name}/{job}": definition for name in WORKFLOWS for job, definition in load(name)["jobs"].items()}
CALLING = {name: job for name, job in DEFINED.items() if "uses" in job}
JOBS = {name: job for name, job in DEFINED.items() if name not in CALLING}
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]


def test_every_workflow_is_covered_by_these_tests():
    assert set(WORKFLOWS) == {"checks", "deploy", "nightly", "pull-request", "vulnerabilities"}, (
        "add rules for a new workflow"
    )


def test_a_merge_runs_the_same_checks_as_its_pull_request():
    assert set(CALLING) == {"deploy/checks", "pull-request/checks"}, "both must have the same result"
    assert CALLING["deploy/checks"] == CALLING["pull-request/checks"]
    called = CALLING["deploy/checks"]
    assert called["uses"] == "./.github/workflows/checks.yml", "of the same commit"
    wanted = {"contents": "read", "actions": "read", "id-token": "write"}
    assert called["permissions"] == wanted, "no more permissions than its jobs request"


def test_every_supported_python_runs_the_default_tier():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (supported,) = re.findall(r"^PYTHONS := (.*)$", makefile, flags=re.MULTILINE)
    checked = [
        step["with"]["python-version"]
        for step in JOBS["checks/check"]["steps"]
        if "python-version" in step.get("with", {})
    ]
    tested = [*checked, *JOBS["checks/versions"]["strategy"]["matrix"]["python"]]
    assert [f"python{each}" for each in tested] == supported.split(), (
        "make must accept only tested versions of Python"
    )


@pytest.mark.parametrize("name", WORKFLOWS)
class TestWorkflow:
    def test_grants_no_permission_to_every_job(self, name):
        assert load(name)["permissions"] == {}, "a job requests its own permissions"

    def test_is_not_run_with_secrets_for_a_fork(self, name):
        triggers = load(name)[True]  # YAML 1.1 reads `on` as a boolean.
        assert not {"pull_request_target", "workflow_run"} & set(
            triggers if isinstance(triggers, dict) else [triggers]
        ), "these triggers run a fork's code with the repository's secrets"

    def test_runs_its_steps_in_bash(self, name):
        assert load(name)["defaults"] == {"run": {"shell": "bash"}}, (
            "only `shell: bash` has pipefail: `make preview | tee` would hide a failure"
        )

    def test_pins_each_action_to_a_commit(self, name):
        text = WORKFLOWS[name].read_text(encoding="utf-8")
        uses = [line.split("uses:", 1)[1].strip() for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]
        assert uses, "there is at least the checkout action"
        for each in uses:
            if each.startswith("./"):
                continue  # A local action has this commit.
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), (
                f"{each}: a tag can be moved to other code, a commit can't; the comment has its version"
            )


def test_no_job_caches_what_pip_has_fetched():
    settings = [step["with"] for _, step in STEPS if step.get("uses", "").startswith("actions/setup-python@")]
    assert settings, "there are jobs that set up Python"
    assert not [each for each in settings if "cache" in each], (
        "uv fetches the packages: pip's folder would be missing, and the action's last step would fail"
    )


def test_an_action_has_one_commit_in_all_workflows():
    used = {step["uses"] for _, step in STEPS if "uses" in step}
    assert len(used) == len({each.split("@")[0] for each in used}), "an upgrade must change all places"


@pytest.mark.parametrize("name", JOBS)
class TestJob:
    def test_has_a_time_limit(self, name):
        assert JOBS[name]["timeout-minutes"] <= 300, "GitHub's default of six hours is also its limit"
        if any(".ci/run" in step.get("run", "") for step in JOBS[name]["steps"]):
            assert JOBS[name]["timeout-minutes"] >= 90, "tests with real nodes take long"

    def test_has_only_the_permissions_that_it_needs(self, name):
        logs_in = any("run-stack" in step.get("run", "") for step in JOBS[name]["steps"])
        expected = {"contents": "read", "id-token": "write"} if logs_in else {"contents": "read"}
        if name == "checks/environments":
            expected["actions"] = "read"
        assert JOBS[name]["permissions"] == expected, "only a job that logs in to Azure may ask for a token"

    def test_has_credentials_of_one_environment_or_none(self, name):
        job = JOBS[name]
        if "id-token" in job["permissions"]:
            assert "matrix.stack" in job["environment"], "a member's identity trusts that member's environment only"
        else:
            assert "environment" not in job, "checks run without credentials"

    def test_leaves_no_token_in_the_checkout(self, name):
        checkouts = [step for step in JOBS[name]["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkouts, "every job checks the repository out"
        for step in checkouts:
            assert step["with"]["persist-credentials"] is False, "later steps need no access to the repository"

    def test_puts_no_expression_into_a_script(self, name):
        for step in JOBS[name]["steps"]:
            assert "${{" not in step.get("run", ""), (
                "it becomes part of the script: a secret would be on a command line, a name could be code"
            )

    def test_passes_secrets_only_to_the_step_that_uses_them(self, name):
        job = JOBS[name]
        assert "secrets." not in json.dumps({key: value for key, value in job.items() if key != "steps"}), (
            "every action of a job can read a secret in its environment"
        )
        for step in job["steps"]:
            assert "secrets." not in json.dumps(step) or "run-stack" in step["run"], "only Pulumi gets secrets"

    def test_stores_no_key_of_azure(self, name):
        secrets = set(re.findall(r"secrets\.(\w+)", json.dumps(JOBS[name])))
        assert secrets <= {"PULUMI_CONFIG_PASSPHRASE"}, "jobs sign in to Azure with a token that is valid for minutes"


DEPLOYING = {name: job for name, job in JOBS.items() if "run-stack up" in json.dumps(job)}


def test_only_a_merge_deploys():
    assert set(DEPLOYING) == {"deploy/up"}, "a pull request shows a preview and changes nothing"
    assert load("deploy")[True] == {"push": {"branches": ["main"]}}, "main is the reviewed code"


@pytest.mark.parametrize("name", DEPLOYING)
class TestDeployment:
    def test_is_one_at_a_time(self, name):
        assert DEPLOYING[name]["strategy"]["max-parallel"] == 1, (
            "the second member's reviewers see the result of the first"
        )
        assert DEPLOYING[name]["strategy"]["fail-fast"] is True, "after a failure no other member is updated"

    def test_is_not_cancelled_by_the_next_run(self, name):
        concurrency = DEPLOYING[name]["concurrency"]
        assert "matrix.stack" in concurrency["group"], "two updates of one stack would compete for its lock"
        assert concurrency["cancel-in-progress"] is False, "a cancelled update leaves pending operations and a lock"
        assert load("deploy")["concurrency"]["cancel-in-progress"] is False, "the same holds for the whole run"

    def test_waits_for_the_members_reviewers(self, name):
        assert DEPLOYING[name]["environment"] == "${{ matrix.stack }}", (
            "the stack's environment has the required reviewers, that of its previews has none"
        )

    def test_comes_after_checks_and_previews(self, name):
        assert DEPLOYING[name]["needs"] == "checks", (
            "reviewers must see the previews first, which are among the checks"
        )


def test_a_fork_gets_no_credentials():
    own_code = "github.event_name == 'push' || github.event.pull_request.head.repo.full_name == github.repository"
    assert JOBS["checks/environments"]["if"] == own_code, "a fork's author could print the job's secrets"
    assert "environments" in JOBS["checks/preview"]["needs"], "it is skipped if its previous job is"


def test_unreviewed_code_waits_for_an_approval():
    preview = JOBS["checks/preview"]
    open_to_merged = "${{ matrix.stack }}-${{ github.event_name == 'push' && 'merged' || 'preview' }}"
    assert preview["environment"] == open_to_merged, (
        "a branch's code reads the state with its private keys: only what is merged may run without an approval"
    )
    assert "environments" in preview["needs"], "an environment that lacks its reviewers stops the run"
    steps = [step for name, step in STEPS if name == "checks/check"]
    assert any("make preview" in step.get("run", "") for step in steps), "each branch gets a plan without Azure"


def test_each_listed_member_has_a_stack():
    assert STACKS, "at least one member is deployed"
    assert len(STACKS) == len(set(STACKS)), "each member is listed once"
    for stack in STACKS:
        assert (ROOT / f"Pulumi.{stack}.yaml").is_file(), f"{stack} is listed, but nothing configures it"


def named_targets() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in SCRIPTS]
    texts += [step["run"] for _, step in STEPS if "run" in step]
    commands = [line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {target for line in commands for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", line)}


def test_each_named_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    assert {"lint", "test", "preview"} <= named_targets(), "CI lints, tests and plans the samples"
    assert named_targets() <= targets, "CI runs existing targets"


def test_each_path_of_codeowners_exists():
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    patterns = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert len(patterns) > 10
    for pattern in patterns:
        found = list(ROOT.glob(pattern.strip("/")))
        assert found, f"{pattern} matches nothing, so it has no owners"
        assert not pattern.endswith("/") or all(path.is_dir() for path in found), f"{pattern} is no folder"


@pytest.mark.parametrize("script", [".ci/run", ".ci/nightly"])
def test_all_tiers_run_as_root(script):
    (command,) = (step["run"] for _, step in STEPS if script in step.get("run", "").split())
    assert command == f".github/as-root {script}", (
        "else the tier of links, and tests of nodes' users, would be skipped"
    )


def test_ci_runs_the_test_command_of_readme():
    shown = re.findall(r"^\$ (make \S+)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "make test" in shown, "README shows how the project is tested"
    assert "\nsection make test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8"), "by the same command"


def execute(
    *command: str | Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
class TestScript:
    def test_is_executable_and_stops_at_a_mistake(self, script):
        text = script.read_text(encoding="utf-8")
        assert os.access(script, os.X_OK), "workflows call it as a program"
        assert "\nset -euo pipefail\n" in text, "a failing step must fail the job"
        assert execute("/usr/bin/env", "bash", "-n", script).returncode == 0, "bash can read it"

    def test_prints_no_secret(self, script):
        text = script.read_text(encoding="utf-8")
        assert "set -x" not in text, "a trace would print every value"
        for line in text.splitlines():
            assert not re.search(r"\b(echo|printf)\b.*\$\{?\w*(TOKEN|PASSPHRASE)", line), f"prints a secret: {line}"


def write_program(directory: Path, name: str, text: str) -> None:
    program = directory / name
    program.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    program.chmod(0o755)


@pytest.fixture
def bin_directory(tmp_path):
    """A separate PATH: the usual tools, and a `curl` and a `pulumi` that record their calls."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in "bash cat chmod dirname echo env false find grep head make mktemp mv rm sh sleep tee".split():
        found = shutil.which(tool)
        assert found, f"the tests need {tool}"
        (directory / tool).symlink_to(found)
    (directory / "python3").symlink_to(sys.executable)
    note = "import json, os, sys\nwith open({file!r}, 'a') as file: file.write(json.dumps({what}) + '\\n')\n"
    write_program(
        directory,
        "curl",
        note.format(file=str(tmp_path / "curl"), what="[sys.argv[1:], given := sys.stdin.read()]")
        + "newest = os.environ.get('NEWEST', '')\n"
        + "if '/commits/main' in given: sys.exit(22) if not newest else print(newest)\n"
        + "else: print(json.dumps({'value': 'signed-token'}))",
    )
    write_program(
        directory,
        "pulumi",
        "token = open(os.environ['AZURE_FEDERATED_TOKEN_FILE']).read()\n".join(
            [
                "import os\n",
                note.format(file=str(tmp_path / "pulumi"), what="[sys.argv[1:], token, dict(os.environ)]"),
            ]
        )
        + "print('Previewing' if sys.argv[1] != 'install' else 'Installing')\n"
        + "sys.exit(int(os.environ.get('PULUMI_FAILS', 0)) if sys.argv[1] != 'install' else 0)",
    )
    return directory


@pytest.fixture
def run_stack(tmp_path, bin_directory):
    (bin_directory / "make").unlink()
    note = "import json, sys\nopen({!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    write_program(bin_directory, "make", note.format(str(tmp_path / "make")))

    def run(operation: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(bin_directory), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), **environment}
        return execute(GITHUB / "run-stack", operation, "dev", environment=given)

    return run


def calls(tmp_path: Path, program: str) -> list[Any]:
    path = tmp_path / program
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class TestRunStack:
    def test_succeeds_with_a_message_without_credentials(self, run_stack, tmp_path):
        done = run_stack("preview", **dict.fromkeys(CREDENTIALS, ""))
        assert done.returncode == 0, "a member that is not set up is no failure of the pull request"
        assert "not run, its environment has no credentials" in done.stdout, "but it must not look like a preview"
        assert "no credentials" in (tmp_path / "summary").read_text(), "nor in the summary"
        assert not calls(tmp_path, "pulumi"), "no login is attempted"

    def test_fails_on_incomplete_credentials(self, run_stack, tmp_path):
        done = run_stack("up", **TOKEN_REQUEST, **{**CREDENTIALS, "ARM_TENANT_ID": ""})
        assert done.returncode == 1, "a green job would hide that a configured member is not deployed"
        assert "has no ARM_TENANT_ID" in done.stdout, "the message names what is missing"
        assert not calls(tmp_path, "pulumi"), "no login is attempted"

    def test_names_the_missing_permission(self, run_stack):
        done = run_stack("up", **CREDENTIALS)
        assert done.returncode == 1
        assert "id-token: write" in done.stdout, "without it GitHub issues no token, and Pulumi's message is unclear"

    def test_refuses_other_operations(self, run_stack, tmp_path):
        assert run_stack("destroy", **TOKEN_REQUEST, **CREDENTIALS).returncode == 1, "no workflow tears down a member"
        assert not calls(tmp_path, "pulumi")

    def test_logs_in_with_the_jobs_token(self, run_stack, tmp_path):
        done = run_stack("preview", **TOKEN_REQUEST, **CREDENTIALS)
        assert done.returncode == 0, done.stdout + done.stderr
        (arguments, configuration), *_ = calls(tmp_path, "curl")
        assert "audience=api://AzureADTokenExchange" in configuration, (
            "the audience that Entra requires of GitHub's tokens"
        )
        assert "bearer-of-the-job" not in " ".join(arguments), "every process can read a command line"
        _, token, environment = calls(tmp_path, "pulumi")[-1]
        assert token == "signed-token", "the state in Azure Storage is opened with it"
        assert environment["ARM_USE_OIDC"] == "true", "azure-native asks GitHub for tokens itself"
        assert environment["AZURE_CLIENT_ID"] == environment["ARM_CLIENT_ID"], "one identity for state and resources"
        assert "signed-token" not in done.stdout + done.stderr, "no token in the log"
        assert not Path(environment["AZURE_FEDERATED_TOKEN_FILE"]).exists(), "nor on the machine after the run"

    @pytest.mark.parametrize(("operation", "wanted"), [("preview", ["preview"]), ("up", ["up", "--yes"])])
    def test_runs_pulumi_after_the_installation_of_its_packages(self, run_stack, tmp_path, operation, wanted):
        run_stack(operation, **TOKEN_REQUEST, **CREDENTIALS)
        install, command = (arguments for arguments, *_ in calls(tmp_path, "pulumi"))
        assert install[:2] == ["install", "--no-dependencies"], "Pulumi would first fetch the newest pip of any hash"
        assert calls(tmp_path, "make") == [["--silent", ".venv/.ready"]], "packages are locked by their hashes"
        assert command[: len(wanted)] == wanted
        assert command[len(wanted) : len(wanted) + 2] == ["--stack", "dev"], "the stack is named, not selected"
        assert "--non-interactive" in command, "no prompt can be answered"
        assert ("--yes" in command) == (operation == "up"), "only an update needs --yes"

    @pytest.mark.parametrize(
        ("attempt", "newest", "said"),
        [
            ("1", "", ""),
            ("2", "c0ffee", ""),
            ("2", "decaf", "c0ffee is not main's newest commit; wanted the run of decaf"),
            ("2", "", "main's newest commit can't be read; wanted GH_TOKEN"),
        ],
    )
    def test_a_repeated_run_updates_by_the_newest_commit_alone(self, run_stack, tmp_path, attempt, newest, said):
        run = {"GITHUB_RUN_ATTEMPT": attempt, "GITHUB_SHA": "c0ffee", "GITHUB_REPOSITORY": "bank/network"}
        run |= {"GITHUB_API_URL": "https://api.github.example", "GH_TOKEN": "token-of-the-job", "NEWEST": newest}
        done = run_stack("up", **TOKEN_REQUEST, **CREDENTIALS, **run)
        assert (done.returncode, bool(calls(tmp_path, "pulumi"))) == ((1, False) if said else (0, True)), done.stdout
        assert said in done.stdout, "its commit may be 30 days old"
        arguments = [" ".join(each) for each, _ in calls(tmp_path, "curl")]
        assert "token-of-the-job" not in " ".join(arguments) + done.stdout

    def test_shows_the_output_and_fails_with_pulumi(self, run_stack, tmp_path):
        done = run_stack("preview", PULUMI_FAILS="3", **TOKEN_REQUEST, **CREDENTIALS)
        assert done.returncode == 3, "tee must not hide the exit status"
        assert "Previewing" in done.stdout, "the log has it"
        assert "Previewing" in (tmp_path / "summary").read_text(), "the summary has it, also after a failure"


@pytest.mark.parametrize("status", [0, 3])
def test_later_steps_own_files_that_root_has_made(bin_directory, tmp_path, status):
    note = tmp_path / "chown"
    write_program(
        bin_directory,
        "sudo",
        "import os, sys\ncommand = [each for each in sys.argv[1:] if each != '--preserve-env']\n"
        "os.execvp(command[0], command)",
    )
    write_program(bin_directory, "chown", f"import sys\nopen({str(note)!r}, 'w').write('\\n'.join(sys.argv[1:]))")
    home, checkout = tmp_path / "home", tmp_path / "checkout"
    home.mkdir(mode=0o700)
    checkout.mkdir()
    made = f'echo > "$HOME/cli"; echo > of-a-test; exit {status}'
    # The files of the tests' user belong to another user.
    given = {"PATH": str(bin_directory), "HOME": str(home), "USER": "daemon"}
    done = execute(GITHUB / "as-root", "sh", "-c", made, environment=given, folder=checkout)
    assert done.returncode == status, f"the job fails with its tests: {done.stderr}"
    assert home.stat().st_mode & 0o001, "the tests' nodes have separate users, who must reach the checkout"
    _, owner, *files = note.read_text(encoding="utf-8").splitlines()
    assert owner == "daemon", "the user of the later steps"
    assert {str(home / "cli"), "./of-a-test"} <= set(files), (
        "the CLI, the caches in the home folder, and the checkout"
    )


def test_findings_of_a_night_are_tried_in_each_later_one():
    steps = JOBS["nightly/nightly"]["steps"]
    (at,) = [place for place, step in enumerate(steps) if ".ci/nightly" in step.get("run", "")]
    restored, saved, handed_out = steps[at - 1], steps[at + 1], steps[at + 2]
    assert {each["with"]["path"] for each in (restored, saved, handed_out)} == {"tests/fuzz/corpus"}
    assert restored["uses"].startswith("actions/cache/restore@")
    assert saved["uses"].startswith("actions/cache/save@")
    assert saved["with"]["key"].startswith(restored["with"]["restore-keys"]), "the newest cache is restored"
    assert saved["if"].startswith("always()"), "a night with a finding has failed"
    assert handed_out["if"] == "failure()", "the finding has to be committed with its fix"


REVIEWERS = {"type": "required_reviewers", "reviewers": [{"type": "Team"}], "prevent_self_review": True}
MAIN_ONLY = {"protected_branches": False, "custom_branch_policies": True}
PROTECTED: dict[str, dict[str, Any]] = {
    "dev-preview": {"name": "dev-preview", "protection_rules": [REVIEWERS], "can_admins_bypass": False},
    "dev-merged": {"name": "dev-merged", "protection_rules": [], "deployment_branch_policy": MAIN_ONLY},
    "dev": {
        "name": "dev",
        "protection_rules": [REVIEWERS],
        "can_admins_bypass": False,
        "deployment_branch_policy": MAIN_ONLY,
    },
    "dev-merged/deployment-branch-policies": {"branch_policies": [{"name": "main", "type": "branch"}]},
    "dev/deployment-branch-policies": {"branch_policies": [{"name": "main", "type": "branch"}]},
}
TAG = {"branch_policies": [{"name": "main", "type": "tag"}]}
ANY_BRANCH = {"branch_policies": [{"name": "main"}, {"name": "*"}]}
BROKEN = object()


class TestEnvironments:
    @pytest.fixture
    def check(self, tmp_path):
        """Run the check against a GitHub with these environments; returns its exit status and its lists."""

        def run(environments: Mapping[str, Any]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
            output = tmp_path / "output"

            class GitHub(Handler):
                def reply(self, _: bytes) -> None:
                    found = environments.get(self.path.removeprefix("/repos/bank/network/environments/"))
                    allowed = self.headers["Authorization"] == "Bearer of-the-job"
                    self.send_response(500 if found is BROKEN or not allowed else 404 if found is None else 200)
                    self.end_headers()
                    self.wfile.write(b"" if found in (None, BROKEN) else json.dumps(found).encode())

            with serving(GitHub) as url:
                given = {
                    **os.environ,
                    "GITHUB_API_URL": url,
                    "GITHUB_REPOSITORY": "bank/network",
                    "GH_TOKEN": "of-the-job",
                    "GITHUB_OUTPUT": str(output),
                }
                done = execute(sys.executable, GITHUB / "check-environments", "dev", environment=given)
            lines = output.read_text(encoding="utf-8").splitlines()
            return done, {name: json.loads(found) for name, found in (line.split("=", 1) for line in lines)}

        return run

    def test_pass_if_each_is_protected(self, check):
        done, lists = check(PROTECTED)
        assert done.returncode == 0, done.stdout + done.stderr
        assert lists == {"preview": ["dev"], "merged": ["dev"], "up": ["dev"]}

    def test_that_are_not_set_up_have_no_secrets(self, check):
        done, lists = check({})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "environment dev-preview: not set up" in done.stdout, "but they must not look checked"
        assert lists == {"preview": [], "merged": [], "up": []}, (
            "GitHub creates an environment that a job names, without protection: the next run would fail"
        )

    @pytest.mark.parametrize(
        ("name", "given", "wanted"),
        [
            ("dev-preview", {"protection_rules": []}, "required reviewers, and no review by oneself"),
            ("dev-preview", {"protection_rules": [{**REVIEWERS, "reviewers": []}]}, "required reviewers"),
            ("dev-preview", {"protection_rules": [{"type": "wait_timer"}]}, "required reviewers"),
            ("dev-merged", {"deployment_branch_policy": None}, "branch main as its only deployment branch"),
            ("dev-merged/deployment-branch-policies", ANY_BRANCH, "branch main as its only deployment branch"),
            ("dev", {"protection_rules": [REVIEWERS], "deployment_branch_policy": None}, "deployment branch"),
            ("dev-merged", {"deployment_branch_policy": {"protected_branches": True}}, "branch main as its only"),
            ("dev-merged/deployment-branch-policies", TAG, "branch main as its only deployment branch or tag"),
            (
                "dev-preview",
                {"protection_rules": [{**REVIEWERS, "prevent_self_review": False}]},
                "no review by oneself",
            ),
            ("dev", {"name": "dev", "deployment_branch_policy": MAIN_ONLY}, "required reviewers"),
            ("dev", {**PROTECTED["dev"], "can_admins_bypass": True}, "no bypass by administrators"),
            ("dev-preview", {"protection_rules": [REVIEWERS]}, "no bypass by administrators"),
            ("dev", BROKEN, "can't be read"),
        ],
    )
    def test_that_are_open_fail_by_name(self, check, name, given, wanted):
        done, _ = check({**PROTECTED, name: given})
        assert done.returncode == 1, "a branch's code would get the stack's private keys"
        assert f"::error::environment {name.split('/')[0]}: " in done.stdout
        assert wanted in done.stdout


PARTS = "lint sbom test histories test-processes test-links test-vm test-ledger test-engine bench-quick".split()
MAKEFILE = "".join(f"{part}:\n\t@echo {part} ran with $(PYTHON)\n" for part in PARTS)


class TestContinuousIntegration:
    @pytest.fixture
    def run(self, tmp_path, bin_directory):
        def run(
            makefile: str = MAKEFILE, *, cli: bool = True, **environment: str
        ) -> subprocess.CompletedProcess[str]:
            checkout = tmp_path / "checkout"
            (checkout / ".ci").mkdir(parents=True)
            shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
            write_program(checkout / ".ci", "install", "print('installed')")
            (checkout / "Makefile").write_text(makefile, encoding="utf-8")
            if not cli:
                (bin_directory / "pulumi").unlink()
            given = {"PATH": str(bin_directory), "HOME": str(tmp_path), **environment}
            return execute(checkout / ".ci" / "run", environment=given)

        return run

    def test_runs_every_part_and_prints_its_duration(self, run):
        done = run()
        assert done.returncode == 0, done.stderr
        for part in PARTS:
            assert f"\n{part} ran with" in done.stdout, f"CI runs {part}"
        *_, first, last = re.findall(r"^ +\d+ s  (.*)$", done.stdout, flags=re.MULTILINE)
        assert last == "make bench-quick", "the seconds of each section, in order, show which part grows"
        assert first == "make test-engine"

    def test_says_which_parts_it_can_not_run(self, run):
        done = run(cli=False)
        assert done.returncode == 0, done.stderr
        assert "Pulumi CLI: none" in done.stdout
        assert "engine tests: not run, no Pulumi CLI" in done.stdout, "skipped tests must not look as passed"
        assert "tests on Python 3.12: not run" in done.stdout, "nor these parts"

    def test_tests_on_the_python_of_vms_too(self, run, bin_directory):
        done = run(PYTHON312=str(bin_directory / "python3"))
        assert f"test ran with {bin_directory / 'python3'}" in done.stdout, "VMs run Python 3.12"

    @pytest.mark.parametrize("part", PARTS)
    def test_fails_with_each_of_its_parts(self, run, part):
        done = run(re.sub(f"(?m)^{part}:\n\t@", f"{part}:\n\t@false && ", MAKEFILE))
        assert done.returncode != 0, f"{part} failed"
        _, of_part = done.stdout.split(f"\n== make {part}", 1)
        assert "\n== " not in of_part, f"no part runs after {part}"

    @pytest.mark.parametrize(("on_github", "status"), [("", 0), ("true", 1)])
    def test_missing_programs_fail_a_run_that_leads_to_a_deployment(self, bin_directory, on_github, status):
        for tool in ("id", "sudo"):
            write_program(bin_directory, tool, "print(0)")
        write_program(bin_directory, "apt-get", "import sys\nsys.exit(100)")
        given = {"PATH": str(bin_directory), "GITHUB_ACTIONS": on_github}
        done = execute(ROOT / ".ci" / "install", environment=given)
        assert done.returncode == status, done.stdout + done.stderr
        assert "some tests will be skipped" in done.stdout, "and are reported either way"
