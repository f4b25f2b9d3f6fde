"""What the platform answers, as far as the client reads it; one module per resource."""

from __future__ import annotations

from eigenwerk.resources.chats import (
    ChatExample,
    ChatMessage,
    ChatPreview,
    RenderedPiece,
    RenderedSequence,
    UnreadField,
)
from eigenwerk.resources.datasets import (
    ColumnFacts,
    DatasetFile,
    DatasetProfile,
    DatasetVersion,
    DatasetVersionDetail,
    Preview,
)
from eigenwerk.resources.deletions import Deleted, JobNamed
from eigenwerk.resources.deployments import Deployment
from eigenwerk.resources.jobs import Job, JobResult, JobSummary, LogLine
from eigenwerk.resources.models import FileLink, Model, ModelVersion, ModelVersionDetail
from eigenwerk.resources.people import HubToken, Leaving, Token, User, UserLimits
from eigenwerk.resources.platform import Host, StorageUsage, StoredKind
from eigenwerk.resources.resource import Resource

__all__ = [
    "ChatExample",
    "ChatMessage",
    "ChatPreview",
    "ColumnFacts",
    "DatasetFile",
    "DatasetProfile",
    "DatasetVersion",
    "DatasetVersionDetail",
    "Deleted",
    "Deployment",
    "FileLink",
    "Host",
    "HubToken",
    "Job",
    "JobNamed",
    "JobResult",
    "JobSummary",
    "Leaving",
    "LogLine",
    "Model",
    "ModelVersion",
    "ModelVersionDetail",
    "Preview",
    "RenderedPiece",
    "RenderedSequence",
    "Resource",
    "StorageUsage",
    "StoredKind",
    "Token",
    "UnreadField",
    "User",
    "UserLimits",
]
