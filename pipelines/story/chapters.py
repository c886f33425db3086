"""The story, one function per chapter: real data, real parts, facts returned.

`make demo` tells it at full scale for people; `tests/story` asserts the facts at a small one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

import proa
from proa.embedded.engine_choice import choose_engine
from proa.embedded.home import Home
from proa.embedded.ports import PortPlan
from proa.embedded.up import down, up
from proa.embedded.workloads import WorkloadFiles
from proa.exam.exam import Exam, Row
from proa.fleet import Fleet
from proa.release.reference import ReleaseRef
from story.scale import Scale
from story.spring import replay
from story.telling import Facts, Voice
from story.traffic import Seen, in_turn, users

CLASSIC, LLM = "flight-delay", "python-help"
# A flight on the morning after release 1's data ends: the online features are of that night.
ENTITY, ENTITY_TIME = "2013-02-15-US-1117-EWR", "2013-02-15T05:30:00Z"


@dataclass
class Story:
    """One telling: where it lives, how large it is, who speaks."""

    home: Home
    projects: Path
    scale: Scale
    voice: Voice
    environ: Mapping[str, str]
    releases: dict[str, str] = field(default_factory=dict)
    users: dict[str, Fleet] = field(default_factory=dict)
    exams: dict[str, Exam] = field(default_factory=dict)

    @cached_property
    def fleet(self) -> Fleet:
        """The fleet as the local user."""
        return proa.connect(self.home.root)

    def project(self, model: str) -> Path:
        """The example project of a model."""
        return self.projects / model.replace("-", "_")

    def exam(self, model: str) -> Exam:
        """The model's exam; its inputs also serve as the users' questions."""
        if model not in self.exams:
            self.exams[model] = self.fleet.exam_of(model, self.project(model))
        return self.exams[model]

    # 1

    def bring_up(self) -> Facts:
        """MLflow, gateway, monitor, controller, features, engine: ready, not slept for."""

        def progress(name: str, state: str, seconds: float, note: str) -> None:
            if state != "starting":
                self.voice.line(f"{name} {state} after {seconds:.1f} s {note}")

        engine = choose_engine("smollm2", self.environ)
        platform = up(
            self.home, ports=PortPlan.parse([], auto=True), engine=engine, progress=progress
        )
        self.voice.line(f"MLflow's page: {platform.urls['mlflow']}")
        for team, feature, model, rights in (
            ("operations", "boarding-app", CLASSIC, ["call", "replay", "events"]),
            ("docs", "editor-help", LLM, ["call", "replay"]),
        ):
            made = self.fleet.create_key(team=team, feature=feature, rights=rights, models=[model])
            self.users[model] = proa.connect(self.home.root, key=made["key"])
        return {"parts": sorted(platform.urls), "engines": sorted(platform.engines)}

    # 2 and 3

    def classic(self) -> Facts:
        """From flights to a judged, served release; answers by entity, by row, with reasons."""
        result = self._create(CLASSIC, until="promote", overrides=self.scale.classic)
        asked = self.exam(CLASSIC).rows[:3]
        by_row = self.users[CLASSIC].predict(
            CLASSIC, rows=[dict(row.inputs) for row in asked], explain=True, headers=_then(asked[0])
        )
        self._say_prediction("by raw rows", by_row.predictions[0])
        by_entity = self.users[CLASSIC].predict(
            CLASSIC, entities=[{"flight_id": ENTITY}], headers={"x-proa-event-time": ENTITY_TIME}
        )
        self._say_prediction("by entity, features read online", by_entity.predictions[0])
        return {
            **self._release_facts(result),
            "rows_answered": len(by_row.predictions),
            "reasons": len(by_row.predictions[0]["reasons"]),
            "by_entity": by_entity.predictions[0]["probability"],
            "answered_by": [by_row.release, by_entity.release],
        }

    def _say_prediction(self, how: str, prediction: Mapping[str, Any]) -> None:
        reasons = prediction.get("reasons") or []
        because = ", ".join(
            f"{reason['feature']} {reason['contribution']:+.2f}" for reason in reasons[:3]
        )
        late = "late" if prediction["label"] else "on time"
        self.voice.line(
            f"{how}: {late}, probability {prediction['probability']:.3f}"
            + (f" because {because}" if because else "")
        )

    def llm(self) -> Facts:
        """From documents to a judged, served release; an answer whole and one streamed."""
        result = self._create(LLM, until="promote", overrides=self.scale.llm)
        question = self._question(0)
        whole = self.users[LLM].chat(LLM, question)
        text = whole["choices"][0]["message"]["content"]
        chunks = list(self.users[LLM].chat_stream(LLM, question))
        streamed = "".join(
            choice.get("delta", {}).get("content") or ""
            for chunk in chunks
            for choice in chunk.get("choices", [])
        )
        self.voice.line(f"asked: {question[-1]['content']}")
        self.voice.line("answered: " + " ".join(text.split())[:160])
        return {
            **self._release_facts(result),
            "citations": [item["id"] for item in whole["proa"]["citations"]],
            "context": whole["proa"]["context"],
            "chunks": len(chunks),
            "same_text_streamed": streamed.strip() == text.strip(),
            "answered_by": [whole["proa"]["release"], chunks[-1]["proa"]["release"]],
        }

    def _question(self, number: int) -> list[dict[str, str]]:
        tasks = [task for task in self.exam(LLM).tasks if task.suite == "answer"]
        task = in_turn(tasks, number)
        return list(task.conversation)  # type: ignore[attr-defined]

    def _create(self, model: str, *, until: str, overrides: Mapping[str, str]) -> dict[str, Any]:
        by_itself = self.scale.by_itself if model == CLASSIC else {}
        result = self.fleet.create(
            self.project(model),
            overrides={**by_itself, **overrides},
            until=until,
            on_line=self.voice.line,
        )
        self.releases.setdefault(model, result["release"])
        return result

    def _release_facts(self, result: Mapping[str, Any]) -> Facts:
        ref = ReleaseRef.parse(result["release"])
        return {
            "release": str(ref),
            "verdict": result["verdict"],
            "promoted": result["promoted"],
            "champion": self.fleet.status(ref.name)["champion"],
            "steps": result["steps"],
        }

    # 4

    def bad_changes(self) -> Facts:
        """A prompt without its context slot, a model of shuffled labels: refused, unnoticed."""
        changes = {
            CLASSIC: {**self.scale.again, "train.function": "bad:train_shuffled"},
            LLM: {**self.scale.llm, "prompt": "prompts/no_context.txt"},
        }
        return {model: self._bad(model, change) for model, change in changes.items()}

    def _bad(self, model: str, change: Mapping[str, str]) -> Facts:
        before = self.fleet.status(model)
        result = self._create(model, until="gate", overrides=change)
        ref = ReleaseRef.parse(result["release"])
        command = [sys.executable, "-c", "from proa.cli import main; main()"]
        command += ["--home", str(self.home.root), "promote", ref.short]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        self.voice.line(f"proa promote {ref.short}: exit {refused.returncode}")
        for line in refused.stderr.strip().splitlines():
            self.voice.line(f"  {line}")
        after = self.fleet.status(model)
        return {
            "release": str(ref),
            "verdict": result["verdict"],
            "exit_code": refused.returncode,
            "said": refused.stderr.strip(),
            "champion_untouched": before["champion"] == after["champion"]
            and after["traffic"] == before["traffic"],
        }

    # 5

    def good_changes(self) -> Facts:
        """Two good changes: canary under traffic, then back again, whole."""
        return {
            CLASSIC: self._good(
                CLASSIC,
                {**self.scale.again, "data.train.end": "2013-03-01T00:00:00-05:00"},
                calls=self.scale.calls,
                pace=self.scale.classic_pace,
            ),
            LLM: self._good(
                LLM,
                {**self.scale.llm, "prompt": "prompts/system_v2.txt", "retrieval.top_k": "3"},
                calls=self.scale.llm_calls,
                pace=self.scale.llm_pace,
            ),
        }

    def _good(self, model: str, change: Mapping[str, str], *, calls: int, pace: int) -> Facts:
        first = self.releases[model]
        before = self._proof(model)
        result = self._create(model, until="gate", overrides=change)
        ref = ReleaseRef.parse(result["release"])
        changes, _ = self.fleet.diff(ReleaseRef.parse(first), ref)
        self.voice.line("changed: " + ", ".join(change.key for change in changes[:8]))
        policy = self.scale.canary(calls)
        with users(self._call(model), pace, pause=0.02) as seen:
            began = time.monotonic()
            self.fleet.promote(
                ref, reason="the story's good change", policy=policy, progress=self._progress()
            )
            promoted = time.monotonic() - began
            between = self._proof(model)
            warm = self._wait_until_warm(model)
            back = self.fleet.rollback(model, reason="to show that it goes back")
        after = self._proof(model)
        self.voice.line(
            f"promoted in {promoted:.1f} s; rolled back: traffic in "
            f"{back['traffic_seconds']:.1f} s, whole in {back['seconds']:.1f} s"
        )
        return {
            "release": str(ref),
            "verdict": result["verdict"],
            "changed": [change.key for change in changes],
            "promote_seconds": round(promoted, 2),
            "previous_warm_after_seconds": round(warm, 2),
            "rollback_traffic_seconds": round(back["traffic_seconds"], 2),
            "rollback_seconds": round(back["seconds"], 2),
            "before": before,
            "promoted": between,
            "after": after,
            **_traffic_facts(seen),
        }

    def _wait_until_warm(self, model: str) -> float:
        """Seconds until the previous release stands by; a rollback before is a rolling update."""
        began = time.monotonic()
        while not self.fleet.status(model)["warm"]:
            if time.monotonic() - began > 120:
                break
            time.sleep(0.1)
        return time.monotonic() - began

    def _progress(self) -> Any:
        last = ""

        def show(status: Mapping[str, Any]) -> None:
            nonlocal last
            if status["message"] != last:
                last = status["message"]
                self.voice.line(last)

        return show

    def _call(self, model: str) -> Any:
        fleet = self.users[model]
        if model == CLASSIC:
            rows = self.exam(CLASSIC).rows

            def predict(number: int) -> str:
                row = rows[number % len(rows)]
                headers = {"x-proa-unit": f"flight-{number % len(rows)}", **_then(row)}
                return fleet.predict(model, rows=[row.inputs], headers=headers).release

            return predict

        def chat(number: int) -> str:
            unit = {"x-proa-unit": f"reader-{number}"}
            answer = fleet.chat(model, self._question(number), headers=unit)
            return str(answer["proa"]["release"])

        return chat

    def _proof(self, model: str) -> Facts:
        """What a release answers to one fixed question, and what its process says of itself."""
        status = WorkloadFiles(self.home).status(model)
        assert status is not None
        assert status.url is not None
        itself = httpx.get(f"{status.url}/release", timeout=30).json()
        facts: Facts = {"release": itself["release"], "selftest": itself["selftest"]}
        if model == CLASSIC:
            row = self.exam(CLASSIC).rows[0]
            answer = self.users[model].predict(model, rows=[dict(row.inputs)], headers=_then(row))
            facts["answered_by"] = answer.release
            facts["probability"] = answer.predictions[0]["probability"]
        else:
            whole = self.users[model].chat(model, self._question(0))
            facts["answered_by"] = whole["proa"]["release"]
            facts["citations"] = [item["id"] for item in whole["proa"]["citations"]]
        return facts

    # 6

    def spring(self) -> Facts:
        """April to June, replayed: calibration breaks, a new release is made and promoted."""
        facts = replay(
            self.fleet,
            self.users[CLASSIC],
            CLASSIC,
            self.scale.spring,
            self.voice.line,
            home=self.home.root,
            projects=self.projects,
        )
        for which, found in facts["calibration"].items():
            if found:
                self.voice.line(
                    f"{which}: said {found['said']:.3f}, came true {found['true']:.3f} "
                    f"({found['rows']:,} flights)"
                )
        return facts

    # 7

    def summary(self) -> Facts:
        """Releases, verdicts, calls, tokens, cost; every answered call has its event."""
        fleet = self.fleet
        releases = {
            model: [
                {"release": item.ref.short, "verdict": item.verdict, "aliases": item.aliases}
                for item in fleet.releases(model)
            ]
            for model in (CLASSIC, LLM)
        }
        missing = self._missing_events()
        bill = {by: fleet.costs(by)["costs"] for by in ("team", "feature", "model")}
        for line in bill["feature"]:
            self.voice.line(
                f"{line['key'] or '-'}: {line['calls']} calls, {line['tokens_in']} tokens in, "
                f"{line['tokens_out']} out, {line['cost_micro'] / 1e6:.4f} USD"
            )
        return {
            "releases": releases,
            "journal": [
                [line["time"], line["action"], line["release"], line["reason"]]
                for line in fleet.history()
            ],
            "costs": bill,
            "calls": sum(line["calls"] for line in bill["team"]),
            "events_missing": missing,
            "drift": {model: self._drift(model) for model in (CLASSIC, LLM)},
        }

    def _drift(self, model: str) -> dict[str, str]:
        """The one honest figure of each release's newest window, in words."""
        return {
            item["release"]: item["windows"][-1]["drift"]["meaning"]
            for item in self.fleet.watch(model)["releases"]
            if item["windows"]
        }

    def _missing_events(self) -> dict[str, int]:
        """Answered user calls without an event, after the emitters had time to deliver."""
        deadline = time.monotonic() + 20
        while True:
            missing = {}
            for model in (CLASSIC, LLM):
                seen = set(self.fleet.seen_requests(model=model))
                answered = {
                    call["request"]
                    for call in self.fleet.calls(model=model, limit="10000")
                    if call["door"] == "user" and call["status"] == 200 and call["complete"]
                }
                missing[model] = len(answered - seen)
            if not any(missing.values()) or time.monotonic() > deadline:
                return missing
            time.sleep(0.2)

    def take_down(self) -> None:
        """Stop everything; data stays in the home folder."""
        for fleet in [*self.users.values(), *filter(None, [self.__dict__.get("fleet")])]:
            fleet.close()
        down(self.home)


def _then(row: Row) -> dict[str, str]:
    """A past flight is asked for in its own time: the monitor judges by it."""
    assert row.time is not None
    return {"x-proa-event-time": row.time}


def _traffic_facts(seen: Seen) -> Facts:
    return {
        "calls_meanwhile": sum(seen.answers.values()),
        "answers": dict(seen.answers),
        "faults": seen.faults,
        "timeline": seen.timeline,
    }
