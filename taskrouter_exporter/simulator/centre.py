"""A seeded contact centre whose whole history is a pure function of time.

Reservations are generated per TaskChannel and hour, Tasks per TaskChannel and day, Workers' activities per
workspace and day. Each of these has its own random source, seeded with its name. Therefore intervals can be
requested in any order, overlapping intervals agree, and two processes with the same seed give the same
answers.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any, Final

from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.simulator.history import History
from taskrouter_exporter.simulator.model import (
    EPOCH,
    HOUR,
    MICROSECOND,
    OUTCOMES,
    SECOND,
    ActivityModel,
    ChannelModel,
    End,
    Incident,
    Outcome,
    QueueModel,
    Reservation,
    Route,
    Scenario,
    Task,
    TaskEvent,
    TaskEventKind,
    WorkflowModel,
    WorkspaceModel,
    api_time,
    microseconds,
)
from taskrouter_exporter.simulator.profiles import ACTIVITIES, PROFILES, WORKFLOWS
from taskrouter_exporter.simulator.statistics import (
    Present,
    Subject,
    cumulative,
    longest_in_queue,
    real_time,
)
from taskrouter_exporter.simulator.workers import AVAILABLE, Workers

_ENDS: Final = {
    End.COMPLETED: (TaskEventKind.COMPLETED,),
    End.CANCELED: (TaskEventKind.CANCELED,),
    End.DELETED: (TaskEventKind.DELETED,),
    End.TIMED_OUT: (TaskEventKind.TIMED_OUT, TaskEventKind.DELETED),
}


class ContactCentre:
    """Three workspaces with their Tasks, reservations and their Workers' activities.

    Before the incident, the data are the same as in the calm scenario with the same seed; reservations also
    after a spike. After an outage, the outcomes of the missing reservations are missing until the last of
    them would have ended. After a shortage of Workers, the Tasks that still wait have reservations.

    Args:
        seed: The seed of all random sources.
        scenario: The problem during the incident.
        incident: The time of the problem. Every scenario needs one, except the calm one, which has none.
        ahead: How far the centre's local time is ahead of UTC. Traffic and shifts follow the local time.

    Raises:
        ValueError: The scenario and the incident do not go together.
    """

    def __init__(
        self,
        seed: int = 1,
        scenario: Scenario = Scenario.CALM,
        incident: Incident | None = None,
        ahead: timedelta = timedelta(),
    ) -> None:
        if (scenario is Scenario.CALM) != (incident is None):
            raise ValueError(f"{scenario}: the calm scenario has no incident, and every other one needs one")
        self.seed = seed
        self.scenario = scenario
        self.incident = incident
        self._ahead = ahead // MICROSECOND
        self.account_sid = "AC" + self._hex("account")
        self.auth_token = self._hex("token")
        self.api_key_sid = "SK" + self._hex("key")
        self.api_key_secret = self._hex("secret")
        self.workspaces = tuple(
            WorkspaceModel(
                sid="WS" + self._hex(profile.name),
                friendly_name=profile.name,
                channels=tuple(
                    ChannelModel(
                        "TC" + self._hex(profile.name, c.unique_name), c.unique_name, c.friendly_name
                    )
                    for c in profile.channels
                ),
                activities=tuple(
                    ActivityModel("WA" + self._hex(profile.name, name), name) for name in ACTIVITIES
                ),
                queues=tuple(
                    QueueModel("WQ" + self._hex(profile.name, "queue", queue.name), queue.name)
                    for queue in profile.queues
                ),
                workflows=tuple(
                    WorkflowModel("WW" + self._hex(profile.name, "workflow", name), name)
                    for name in WORKFLOWS
                ),
            )
            for profile in PROFILES
        )
        self._index = {sid_key(workspace.sid): index for index, workspace in enumerate(self.workspaces)}
        span = None if incident is None else (self._local(incident.start), self._local(incident.end))
        self._history = History(self._random, scenario, span)
        self._workers = Workers(self._random, span if scenario is Scenario.NO_AGENTS else None)

    def prepare(self, start: datetime, end: datetime) -> None:
        """Simulate `[start, end)` now, so that the first answers about it are no slower than later ones."""
        for workspace in self.workspaces:
            self.statistics(workspace.sid, start, end)
            self.task_statistics(workspace.sid, start, end)
            self.real_time_statistics(workspace.sid, end)

    def reservations(
        self, workspace_sid: str, start: datetime, end: datetime, channel: str | None = None
    ) -> list[Reservation]:
        """Return the event log: every reservation created in `[start, end)`, in the order of creation.

        Raises:
            KeyError: There is no such workspace or TaskChannel (SID or unique name).
        """
        index, channels = self._find(workspace_sid, channel)
        first, last = self._local(start), self._local(end)
        log = [
            Reservation(
                channel=PROFILES[index].channels[number].unique_name,
                created=self._utc(created),
                outcome=OUTCOMES[outcome],
                ended=self._utc(ended),
            )
            for number in channels
            for hour in self._history.hours(index, number, first, last)
            for created, outcome, ended in zip(hour.created, hour.outcomes, hour.ended, strict=True)
            if first <= created < last
        ]
        return sorted(log, key=lambda reservation: reservation.created)

    def task_events(
        self, workspace_sid: str, start: datetime, end: datetime, channel: str | None = None
    ) -> list[TaskEvent]:
        """Return the Tasks' event log of `[start, end)`, in order.

        Raises:
            KeyError: There is no such workspace or TaskChannel (SID or unique name).
        """
        index, channels = self._find(workspace_sid, channel)
        log = [
            event
            for number in channels
            for task in self._history.tasks(index, number, self._local(start), self._local(end))
            for event in self._events(index, number, task)
            if start <= event.at < end
        ]
        return sorted(log, key=lambda event: event.at)

    def _events(self, index: int, number: int, task: Task) -> Iterator[TaskEvent]:
        workspace = self.workspaces[index]
        sid, channel = self._task_sid(index, number, task), workspace.channels[number].unique_name

        def event(kind: TaskEventKind, at: int, route: Route, outcome: Outcome | None = None) -> TaskEvent:
            queue, workflow = workspace.queues[route.queue], workspace.workflows[route.workflow]
            return TaskEvent(self._utc(at), kind, sid, channel, queue, workflow, outcome)

        first, last = task.stays[0], task.stays[-1]
        yield event(TaskEventKind.CREATED, task.created, first.route)
        yield event(TaskEventKind.ENTERED, task.created, first.route)
        for old, new in pairwise(task.stays):
            yield event(TaskEventKind.MOVED, new.entered, old.route)
            yield event(TaskEventKind.ENTERED, new.entered, new.route)
        for attempt in task.attempts:
            yield event(TaskEventKind.RESERVED, attempt.created, attempt.route)
            accepted = attempt.outcome is Outcome.ACCEPTED
            kind = TaskEventKind.ACCEPTED if accepted else TaskEventKind.RELEASED
            yield event(kind, attempt.ended, attempt.route, attempt.outcome)
        if task.wrapping is not None:
            yield event(TaskEventKind.WRAPPING, task.wrapping, last.route)
        for kind in _ENDS[task.end]:
            yield event(kind, task.ended, last.route)

    def statistics(
        self, workspace_sid: str, start: datetime, end: datetime, channel: str | None = None
    ) -> dict[str, Any]:
        """Return cumulative Worker statistics of `[start, end)`, without `account_sid` and `url`.

        `reservations_created` counts by the time of creation, the outcomes by the time of the end. Durations
        are clipped to the interval, with bounds truncated to whole seconds, so that totals add up. They are
        the same for every channel: it is not known whether the real API's `TaskChannel` filters them.

        Raises:
            KeyError: There is no such workspace or TaskChannel (SID or unique name).
        """
        index, channels = self._find(workspace_sid, channel)
        first, last = self._local(start), self._local(end)
        created = 0
        ended = [0] * len(OUTCOMES)
        for number in channels:
            for hour in self._history.hours(index, number, first - HOUR, last):
                created += bisect_left(hour.created, last) - bisect_left(hour.created, first)
                for outcome, times in enumerate(hour.ended_by_outcome):
                    if times:
                        ended[outcome] += bisect_left(times, last) - bisect_left(times, first)
        return {
            "workspace_sid": workspace_sid,
            "reservations_created": created,
            **{f"reservations_{outcome}": count for outcome, count in zip(OUTCOMES, ended, strict=True)},
            "activity_durations": self._activity_durations(index, first // SECOND, last // SECOND),
            "start_time": api_time(start),
            "end_time": api_time(end),
        }

    def task_statistics(  # noqa: PLR0913, PLR0917 - the parameters of a request
        self,
        workspace_sid: str,
        start: datetime,
        end: datetime,
        channel: str | None = None,
        subject: str | None = None,
        thresholds: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        """Return cumulative Task statistics of `[start, end)`, without `account_sid` and `url`.

        Args:
            workspace_sid: The workspace.
            start: The start, with a time zone.
            end: The end, with a time zone.
            channel: The TaskChannel (SID or unique name), None for all.
            subject: The TaskQueue or Workflow (SID), None for the workspace.
            thresholds: Seconds by which to split the waits.

        Raises:
            KeyError: There is no such workspace, TaskChannel, TaskQueue or Workflow.
        """
        index, channels = self._find(workspace_sid, channel)
        kind, number = self._subject(index, subject)
        first, last = self._local(start), self._local(end)
        ledgers = [
            ledger
            for channel_number in channels
            for route, ledger in self._history.ledgers(index, channel_number, first, last)
            if kind.has(number, route)
        ]
        return {
            **_sids(workspace_sid, kind, subject),
            **cumulative(kind, ledgers, first, last, thresholds),
            "start_time": api_time(start),
            "end_time": api_time(end),
        }

    def real_time_statistics(
        self, workspace_sid: str, moment: datetime, channel: str | None = None, subject: str | None = None
    ) -> dict[str, Any]:
        """Return real-time statistics at a moment, without `account_sid` and `url`.

        Args:
            workspace_sid: The workspace.
            moment: The time, with a time zone.
            channel: The TaskChannel (SID or unique name), None for all; Workers serve every one.
            subject: The TaskQueue or Workflow (SID), None for the workspace.

        Raises:
            KeyError: There is no such workspace, TaskChannel, TaskQueue or Workflow.
        """
        index, channels = self._find(workspace_sid, channel)
        kind, number = self._subject(index, subject)
        now = self._local(moment)
        present = [
            Present(task, channel_number, route)
            for channel_number in channels
            for task in self._history.tasks(index, channel_number, now, now)
            if kind.has(number, route := task.route_at(now))
        ]

        def sid(task: Present) -> str:
            return self._task_sid(index, task.channel, task.task)

        answer = {**_sids(workspace_sid, kind, subject), **real_time(present, now, sid)}
        if kind is Subject.WORKFLOW:
            return answer
        if kind is Subject.WORKSPACE:
            workers: Collection[int] = range(PROFILES[index].workers)
            answer["total_workers"] = len(workers)
        else:
            queue = PROFILES[index].queues[number]
            workers = [worker for worker in range(PROFILES[index].workers) if queue.serves(worker)]
            answer |= longest_in_queue(present, now, sid)
            answer["total_eligible_workers"] = len(workers)
        at_all = self._workers.activities_at(index, now // SECOND)
        activities = [at_all[worker] for worker in workers]
        if kind is Subject.QUEUE:
            answer["total_available_workers"] = activities.count(AVAILABLE)
        answer["activity_statistics"] = [
            {"friendly_name": model.friendly_name, "workers": activities.count(activity), "sid": model.sid}
            for activity, model in enumerate(self.workspaces[index].activities)
        ]
        return answer

    def _activity_durations(self, index: int, start: int, end: int) -> list[dict[str, Any]]:
        """Return each Activity's durations within the local epoch seconds `[start, end)`."""
        durations = self._workers.durations(index, start, end)
        return [
            {
                "max": max(stints, default=0),
                "min": min(stints, default=0),
                "sid": activity_model.sid,
                "friendly_name": activity_model.friendly_name,
                "avg": round(sum(stints) / len(stints)) if stints else 0,
                "total": sum(stints),
            }
            for activity_model, stints in zip(self.workspaces[index].activities, durations, strict=True)
        ]

    def _find(self, workspace_sid: str, channel: str | None) -> tuple[int, range]:
        """Return the index of the workspace and those of the selected channels."""
        index = self._index[sid_key(workspace_sid)]
        channels = self.workspaces[index].channels
        if channel is None:
            return index, range(len(channels))
        model = self.workspaces[index].channel(channel)
        if model is None:
            raise KeyError(channel)
        number = channels.index(model)
        return index, range(number, number + 1)

    def _subject(self, index: int, sid: str | None) -> tuple[Subject, int]:
        """Return the kind of a subject and its number in the workspace."""
        workspace = self.workspaces[index]
        if sid is None:
            return Subject.WORKSPACE, 0
        if queue := workspace.queue(sid):
            return Subject.QUEUE, workspace.queues.index(queue)
        if workflow := workspace.workflow(sid):
            return Subject.WORKFLOW, workspace.workflows.index(workflow)
        raise KeyError(sid)

    def _task_sid(self, index: int, number: int, task: Task) -> str:
        profile = PROFILES[index]
        return "WT" + self._hex(profile.name, profile.channels[number].unique_name, *map(str, task.key))

    def _local(self, moment: datetime) -> int:
        return microseconds(moment) + self._ahead

    def _utc(self, local: int) -> datetime:
        return EPOCH + (local - self._ahead) * MICROSECOND

    def _hex(self, *names: str) -> str:
        """Return 32 hexadecimal digits derived from these names."""
        return hashlib.sha256("/".join(("sid", str(self.seed), *names)).encode()).hexdigest()[:32]

    def _random(self, *names: str | int) -> Random:
        """Return the random source for these names. hash() would differ between processes."""
        return Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - generates traffic, no secrets


def _sids(workspace_sid: str, kind: Subject, subject: str | None) -> dict[str, Any]:
    if kind is Subject.WORKSPACE:
        return {"workspace_sid": workspace_sid}
    name = "task_queue_sid" if kind is Subject.QUEUE else "workflow_sid"
    return {"workspace_sid": workspace_sid, name: subject}
