"""catalogue: description, tags, licence, archive and lineage of models"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012b"
down_revision = "0014"
branch_labels = None
depends_on = None
#: What older code registers has no lineage of its own; nothing else is missed.
works_with_previous_code = True

_OF_MODELS = ("description", "license")

#: From the jobs that are still there. Their inputs are a `jobspecs.frozen.FrozenInputs`.
_LINEAGE_OF_JOBS = """
UPDATE model_versions AS version SET lineage = jsonb_build_object(
    'kind', job.kind,
    'spec', job.spec,
    'models', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'role', input.role,
            'reference', CASE WHEN input.thing ->> 'source' = 'hub'
                THEN 'hub:' || (input.thing ->> 'repository') || '@' || (input.thing ->> 'revision')
                ELSE (input.thing ->> 'owner') || '/' || (input.thing ->> 'name') || '@' || (input.thing ->> 'version')
                END,
            'digest', input.thing ->> 'digest'))
        FROM (
            SELECT 'model' AS role, job.inputs -> 'model' AS thing
            UNION ALL
            SELECT key, value FROM jsonb_each(
                CASE WHEN jsonb_typeof(job.inputs -> 'models') = 'object' THEN job.inputs -> 'models' ELSE '{}' END)
        ) AS input
        WHERE jsonb_typeof(input.thing) = 'object'), '[]'),
    'datasets', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'role', role,
            'reference', (job.inputs -> role ->> 'owner') || '/' || (job.inputs -> role ->> 'name')
                || '@' || (job.inputs -> role ->> 'version'),
            'sha256', job.inputs -> role ->> 'sha256'))
        FROM unnest(ARRAY['dataset', 'held_out', 'test']) AS role
        WHERE jsonb_typeof(job.inputs -> role) = 'object'), '[]'))
FROM jobs AS job WHERE job.id = version.job_id
"""
_LINEAGE_OF_ADAPTERS = """
UPDATE model_versions SET lineage = jsonb_build_object(
    'kind', NULL, 'spec', NULL, 'datasets', '[]'::jsonb, 'models', jsonb_build_array(jsonb_build_object(
        'role', 'model',
        'reference', manifest -> 'base' ->> 'reference',
        'digest', manifest -> 'base' ->> 'digest')))
WHERE lineage IS NULL AND jsonb_typeof(manifest -> 'base') = 'object'
"""


def upgrade() -> None:
    for name in _OF_MODELS:
        op.add_column("models", sa.Column(name, sa.String(), nullable=True))
    op.add_column(
        "models", sa.Column("tags", postgresql.ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("model_versions", sa.Column("lineage", postgresql.JSONB(), nullable=True))
    op.add_column("model_versions", sa.Column("license", sa.String(), nullable=True))
    op.add_column("model_versions", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(_LINEAGE_OF_JOBS)
    op.execute(_LINEAGE_OF_ADAPTERS)
    op.create_index(
        "ix_model_versions_lineage",
        "model_versions",
        ["lineage"],
        postgresql_using="gin",
        postgresql_ops={"lineage": "jsonb_path_ops"},
    )


def downgrade() -> None:
    op.drop_index("ix_model_versions_lineage", table_name="model_versions")
    for name in ("archived_at", "license", "lineage"):
        op.drop_column("model_versions", name)
    for name in ("tags", *_OF_MODELS):
        op.drop_column("models", name)
