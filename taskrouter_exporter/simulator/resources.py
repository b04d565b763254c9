"""The resources other than statistics, as the API writes them.

Of Twilio's links, they have those that are served here.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from taskrouter_exporter.simulator.model import ChannelModel, QueueModel, WorkflowModel, WorkspaceModel
from taskrouter_exporter.simulator.parameters import integer
from taskrouter_exporter.simulator.profiles import TARGETS, WORKFLOWS
from taskrouter_exporter.simulator.wire import ApiError, Request

_DEFAULT_PAGE_SIZE: Final = 50
_MAX_PAGE_SIZE: Final = 1000
_CREATED: Final = "2024-02-05T09:30:00Z"
_RESERVATION_TIMEOUT: Final = 120


class Resources:
    """The resources of an account.

    Args:
        account_sid: The account's SID.
        base_url: The URL in front of every path.
    """

    def __init__(self, account_sid: str, base_url: str) -> None:
        self._account_sid = account_sid
        self._base_url = base_url

    def workspace(self, workspace: WorkspaceModel) -> dict[str, Any]:
        """Return a workspace."""
        url = self._workspace_url(workspace)
        offline = workspace.activities[0]
        return {
            **self._common(),
            "default_activity_name": offline.friendly_name,
            "default_activity_sid": offline.sid,
            "event_callback_url": "",
            "events_filter": None,
            "friendly_name": workspace.friendly_name,
            "links": {
                "task_channels": f"{url}/TaskChannels",
                "task_queues": f"{url}/TaskQueues",
                "workflows": f"{url}/Workflows",
                "real_time_statistics": f"{url}/RealTimeStatistics",
                "cumulative_statistics": f"{url}/CumulativeStatistics",
            },
            "multi_task_enabled": True,
            "prioritize_queue_order": "FIFO",
            "sid": workspace.sid,
            "timeout_activity_name": offline.friendly_name,
            "timeout_activity_sid": offline.sid,
            "url": url,
        }

    def channel(self, workspace: WorkspaceModel, channel: ChannelModel) -> dict[str, Any]:
        """Return a TaskChannel."""
        url = self._workspace_url(workspace)
        return {
            **self._common(),
            "friendly_name": channel.friendly_name,
            "sid": channel.sid,
            "unique_name": channel.unique_name,
            "url": f"{url}/TaskChannels/{channel.sid}",
            "workspace_sid": workspace.sid,
            "channel_optimized_routing": False,
            "links": {"workspace": url},
        }

    def queue(self, workspace: WorkspaceModel, queue: QueueModel) -> dict[str, Any]:
        """Return a TaskQueue. It has no activities for reservation and assignment, as in multitasking."""
        url = self._workspace_url(workspace)
        return {
            **self._common(),
            "assignment_activity_name": None,
            "assignment_activity_sid": None,
            "friendly_name": queue.friendly_name,
            "max_reserved_workers": 1,
            "links": {
                "workspace": url,
                **_statistics_links(f"{url}/TaskQueues/{queue.sid}"),
                "bulk_real_time_statistics": f"{url}/TaskQueues/RealTimeStatistics",
            },
            "reservation_activity_name": None,
            "reservation_activity_sid": None,
            "sid": queue.sid,
            "target_workers": f'queues HAS "{queue.friendly_name}"',
            "task_order": "FIFO",
            "url": f"{url}/TaskQueues/{queue.sid}",
            "workspace_sid": workspace.sid,
        }

    def workflow(self, workspace: WorkspaceModel, workflow: WorkflowModel) -> dict[str, Any]:
        """Return a Workflow."""
        url = f"{self._workspace_url(workspace)}/Workflows/{workflow.sid}"
        numbers = TARGETS[WORKFLOWS.index(workflow.friendly_name)]
        targets = [
            {"queue": workspace.queues[number].sid} for number in numbers if number < len(workspace.queues)
        ]
        configuration = {"task_routing": {"filters": [{"expression": "1 == 1", "targets": targets}]}}
        return {
            **self._common(),
            "assignment_callback_url": None,
            "configuration": json.dumps(configuration),
            "document_content_type": "application/json",
            "fallback_assignment_callback_url": None,
            "friendly_name": workflow.friendly_name,
            "sid": workflow.sid,
            "task_reservation_timeout": _RESERVATION_TIMEOUT,
            "url": url,
            "links": _statistics_links(url),
            "workspace_sid": workspace.sid,
        }

    def page(self, request: Request, key: str, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return one page of a list with its `meta`, without items that have another `FriendlyName`.

        A PageToken is valid for its page only. Here, `Page` alone is enough; Twilio's documentation asks
        clients to follow `next_page_url` instead. Source: https://www.twilio.com/docs/usage/twilios-response
        """
        size = integer(request.parameters, "PageSize", _DEFAULT_PAGE_SIZE, 1, _MAX_PAGE_SIZE)
        page = integer(request.parameters, "Page", 0, 0, 1_000_000)
        name = request.parameters.get("FriendlyName") if key != "channels" else None
        filters = {} if name is None else {"FriendlyName": name}
        if name is not None:
            items = [item for item in items if item["friendly_name"] == name]
        if request.parameters.get("PageToken") not in (None, _page_token(items, page * size)):
            raise ApiError(HTTPStatus.BAD_REQUEST, "PageToken does not belong to this page")

        def url(number: int) -> str:
            token = _page_token(items, number * size)
            parameters = {
                "PageSize": size,
                "Page": number,
                **({"PageToken": token} if token else {}),
                **filters,
            }
            return f"{self._base_url}{request.path}?{urlencode(parameters)}"

        meta = {
            "first_page_url": url(0),
            "key": key,
            "next_page_url": url(page + 1) if (page + 1) * size < len(items) else None,
            "page": page,
            "page_size": size,
            "previous_page_url": url(page - 1) if page else None,
            "url": url(page),
        }
        return {key: items[page * size : (page + 1) * size], "meta": meta}

    def _common(self) -> dict[str, Any]:
        return {"account_sid": self._account_sid, "date_created": _CREATED, "date_updated": _CREATED}

    def _workspace_url(self, workspace: WorkspaceModel) -> str:
        return f"{self._base_url}/v1/Workspaces/{workspace.sid}"


def _statistics_links(url: str) -> dict[str, str]:
    return {
        "real_time_statistics": f"{url}/RealTimeStatistics",
        "cumulative_statistics": f"{url}/CumulativeStatistics",
    }


def _page_token(items: Sequence[Mapping[str, Any]], offset: int) -> str | None:
    """Return the token of the page that starts at this offset: the SID of the last item before it."""
    return f"PT{items[offset - 1]['sid']}" if 0 < offset <= len(items) else None
