"""The tables, one module per noun. Importing this package fills `Base.metadata`."""

from __future__ import annotations

from storage.tables.answers import AnswerCountRow
from storage.tables.base import Base
from storage.tables.batches import BatchAnswerRow, BatchRow
from storage.tables.blobs import BlobRow, ImportBlobRow, ModelPieceRow
from storage.tables.datasets import DatasetRow, DatasetVersionRow
from storage.tables.decisions import DecisionRow
from storage.tables.deployments import DeploymentAdapterRow, DeploymentRow, EngineHoldRow
from storage.tables.garbage import GarbageRow
from storage.tables.hosts import HostInstanceRow, HostRow
from storage.tables.hub import HubPushRow, HubUploadRow, HubXorbRow
from storage.tables.hub_tokens import HubTokenRow
from storage.tables.jobs import CheckpointRow, JobEventRow, JobRow, JobTransitionRow
from storage.tables.models import (
    ModelAliasMoveRow,
    ModelAliasRow,
    ModelImportFileRow,
    ModelImportRow,
    ModelRow,
    ModelVersionRow,
)
from storage.tables.outbox import OutboxRow
from storage.tables.owners import OwnerRow
from storage.tables.pipelines import PipelineEventRow, PipelineRow, PipelineStepRow
from storage.tables.schedules import ScheduleRow, ScheduleRunRow
from storage.tables.schema import SchedulerLeaderRow, SchemaCompatibilityRow
from storage.tables.sweeps import SweepRow, SweepTrialRow
from storage.tables.tallies import TallyRow
from storage.tables.uploads import UploadPartRow, UploadRow
from storage.tables.users import TokenRow, UserRow
from storage.tables.webhooks import WebhookDeliveryRow, WebhookRow

__all__ = [
    "AnswerCountRow",
    "Base",
    "BatchAnswerRow",
    "BatchRow",
    "BlobRow",
    "CheckpointRow",
    "DatasetRow",
    "DatasetVersionRow",
    "DecisionRow",
    "DeploymentAdapterRow",
    "DeploymentRow",
    "EngineHoldRow",
    "GarbageRow",
    "HostInstanceRow",
    "HostRow",
    "HubPushRow",
    "HubTokenRow",
    "HubUploadRow",
    "HubXorbRow",
    "ImportBlobRow",
    "JobEventRow",
    "JobRow",
    "JobTransitionRow",
    "ModelAliasMoveRow",
    "ModelAliasRow",
    "ModelImportFileRow",
    "ModelImportRow",
    "ModelPieceRow",
    "ModelRow",
    "ModelVersionRow",
    "OutboxRow",
    "OwnerRow",
    "PipelineEventRow",
    "PipelineRow",
    "PipelineStepRow",
    "ScheduleRow",
    "ScheduleRunRow",
    "SchedulerLeaderRow",
    "SchemaCompatibilityRow",
    "SweepRow",
    "SweepTrialRow",
    "TallyRow",
    "TokenRow",
    "UploadPartRow",
    "UploadRow",
    "UserRow",
    "WebhookDeliveryRow",
    "WebhookRow",
]
