"""Bodies and files that mean harm, each small: what is made of them would not be. Generated, the same each time."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

_GGUF = b"GGUF"


@dataclass(frozen=True)
class Case:
    """One request. `import_id` in the path is filled in when it is sent."""

    name: str
    method: str
    path: str
    content: bytes
    content_type: str = "application/octet-stream"


def cases() -> list[Case]:
    return [*_bodies(), *_tables(), *_names(), *_model_files()]


def _bodies() -> Iterator[Case]:
    documents = {
        "many-fields-one-twice": b"{" + b"".join(b'"k%d":1,' % n for n in range(80_000)) + b'"k0":2}',
        "many-fields": b'{"kind":"x"' + b"".join(b',"k%d":1' % n for n in range(80_000)) + b"}",
        "deep-lists": b"[" * 900_000,
        "deep-objects": b'{"a":' * 100_000,
        "empty-lists": b"[" + b"[]," * 300_000 + b"[]]",
        "empty-objects": b"[" + b"{}," * 300_000 + b"{}]",
        "long-number": b'{"n":' + b"9" * 900_000 + b"}",
        "long-fraction": b'{"n":0.' + b"9" * 900_000 + b"}",
        "long-exponent": b'{"n":1e' + b"9" * 900_000 + b"}",
        "open-string": b'{"a":"' + b"x" * 900_000,
        "backslashes": b'{"a":"' + b"\\" * 900_000,
        "quotes": b'"' * 900_000,
        "surrogates": b'{"a":"' + b"\\ud800" * 150_000 + b'"}',
        "nul": b'{"a":"\\u0000"}',
        "not-utf8": b'{"a":"\xff\xfe"}',
        "infinity": b'{"a":Infinity}',
        "spaces": b" " * 900_000,
        "too-large": b'"' + b"x" * 1_100_000 + b'"',
    }
    routes = ("/v1/jobs", "/v1/embeddings", "/v1/rerank", "/v1/chat/completions", "/v1/registry/imports")
    for name, body in documents.items():
        for route in routes if name in ("many-fields", "many-fields-one-twice", "empty-lists") else routes[:2]:
            yield Case(f"body-{name}{route}", "POST", route, body, "application/json")
    lists = b"[" + b"{}," * 200_000 + b"{}]"
    yield Case(
        "documents", "POST", "/v1/rerank", b'{"model":"m","query":"q","documents":' + lists + b"}", "application/json"
    )
    yield Case(
        "messages", "POST", "/v1/chat/completions", b'{"model":"m","messages":' + lists + b"}", "application/json"
    )
    yield Case("input", "POST", "/v1/embeddings", b'{"model":"m","input":' + lists + b"}", "application/json")
    for name, item in (("null", b"null,"), ("float", b"0.5,"), ("list", b"[],"), ("token", b"1,"), ("text", b'"",')):
        prompt = b'"prompt":[' + item * (15_000 if name == "list" else 190_000) + b"0]}"
        yield Case(f"prompt-{name}", "POST", "/v1/completions", b'{"model":"m",' + prompt, "application/json")
        yield Case(f"prompt-{name}-path", "POST", "/models/o/m/v1/completions", b"{" + prompt, "application/json")
    spec = b'{"kind":"train-embedder","model":"m","dataset":"d","anchor":"a","positive":"p"'
    for field in (b"negative", b"matryoshka_dims", b"score_range", b"prompts"):
        body = spec + b',"' + field + b'":[' + b"0," * 480_000 + b"0]}"
        for route in ("/v1/jobs", "/v1/jobs/estimate", "/v1/jobs/check"):
            yield Case(f"spec-{field.decode()}{route}", "POST", route, body, "application/json")
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "text/plain", "application/xml"):
        yield Case(f"type-{kind}", "POST", "/v1/jobs", b"--x\r\n" * 100_000, kind)


def _tables() -> Iterator[Case]:
    line = b"x" * 5000 + b",b\n"
    plain: dict[str, bytes] = {
        "wide.csv": b",".join(b"c%d" % n for n in range(40_000)) + b"\n1\n",
        "wide.tsv": b"\t".join(b"c%d" % n for n in range(40_000)) + b"\n1\n",
        "same.csv": b"a," * 20_000 + b"a\n1\n",
        "name.csv": b"n" * 500_000 + b",b\n1,2\n",
        "quotes.csv": b'a,b\n"' + b'""' * 400_000,
        "open.csv": b'a,b\n"' + b"x\n" * 400_000,
        "field.csv": b"a,b\n" + b"x" * 1_100_000 + b",1\n",
        "commas.csv": b"a,b\n" + b"," * 900_000,
        "nul.csv": b"a,b\n\0,1\n",
        "latin.csv": b"a,b\n\x81\x8d,1\n",
        "blank.csv": b"\n" * 900_000,
        "carriage.csv": b"\r" * 900_000,
        "empty.csv": b"",
        "utf16.csv": "a,b\n1,2\n".encode("utf-16")[:-1],
        "fields.jsonl": b"{" + b"".join(b'"k%d":1,' % n for n in range(80_000)) + b'"k0":2}',
        "fieldsonce.jsonl": b"{" + b"".join(b'"k%d":1,' % n for n in range(80_000)) + b'"z":2}',
        "deep.jsonl": b'{"a":' * 200_000,
        "deeplist.jsonl": b'{"a":' + b"[" * 400_000,
        "number.jsonl": b'{"a":' + b"9" * 900_000 + b"}",
        "surrogate.jsonl": b'{"a":"\\ud800"}\n',
        "nul.jsonl": b'{"a":"\\u0000"}\n',
        "scalar.jsonl": b"1\n" * 100,
        "name.jsonl": b'{"' + b"x" * 500_000 + b'":1}\n',
        "blank.jsonl": b"\n" * 100_000 + b"{}",
        "deep.json": b"[" * 900_000,
        "open.json": b'["' + b"x" * 900_000,
        "spaces.json": b" " * 900_000,
        "commas.json": b"[" + b"," * 900_000,
        "lists.json": b"[" + b"[]," * 300_000 + b"[]]",
        "tail.json": b'[{"a":1}]' + b"x" * 100_000,
        "twice.json": b"[{" + b"".join(b'"k%d":1,' % n for n in range(50_000)) + b'"k0":2}]',
        "text.parquet": b"PAR1" + b"x" * 100_000 + b"PAR1",
        "footer.parquet": b"PAR1" + b"\0" * 100 + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "short.parquet": b"PAR1",
        "bomb.csv.bz2": bz2.compress(b"a,b\n" + line * 2000),
        "damaged.csv.gz": b"\x1f\x8b\x08" + b"x" * 1000,
        "damaged.csv.xz": b"\xfd7zXZ\0" + b"x" * 1000,
        "cut.csv.gz": gzip.compress(b"a,b\n" + line * 100)[:-20],
        "members.csv.gz": gzip.compress(b"") * 20_000,
    }
    for repeated in (b"0" * 4096, b"a,b\n" + b"x" * 4000 + b",1\n", b"\n" * 4096, b'{"a":"' + b"x" * 4000 + b'"}\n'):
        content = repeated * 5_000
        ending = "jsonl" if b"{" in repeated else "csv"
        plain[f"bomb{len(plain)}.{ending}.gz"] = gzip.compress(content, 9)
        plain[f"bomb{len(plain)}.{ending}.xz"] = lzma.compress(content, preset=0)
        plain[f"bomb{len(plain)}.json.gz"] = gzip.compress(b"[" + content, 9)
    for name, body in {**plain, **_parquet()}.items():
        yield Case(f"table-{name}", "PUT", f"/v1/datasets/hostile?file_name={name}", body)


def _parquet() -> dict[str, bytes]:
    def written(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    def repeated(text: str, rows: int) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])

    return {
        "dictionary.parquet": written(pa.table({"a": repeated("x" * 1_000_000, 20_000)})),
        "dictionaries.parquet": written(pa.table({f"c{n}": repeated("x" * 100_000, 2_000) for n in range(10)})),
        "huge.parquet": written(pa.table({"a": repeated("x" * 20_000_000, 500)})),
        "list.parquet": written(pa.table({"a": [[0] * 2_000_000] * 20})),
        "columns.parquet": written(pa.table({f"c{n}": [1] for n in range(2_000)})),
        "names.parquet": written(pa.Table.from_arrays([pa.array([1])] * 500, names=["a"] * 500)),
    }


def _names() -> Iterator[Case]:
    for name in (
        "../x.csv",
        "x" * 300 + ".csv",
        "a\0b.csv",
        ".csv",
        "x.pkl",
        "x.zip",
        "x.csv.bz2",
        "x.parquet.gz",
        "‮x",
    ):
        yield Case(f"name-{name[:20]!r}", "PUT", f"/v1/datasets/h?file_name={quote(name)}", b"a,b\n1,2\n")
    for path in ("x" * 300, "%00", "..", "a/b", "Ä"):
        yield Case(f"dataset-{path[:10]}", "PUT", f"/v1/datasets/{quote(path)}?file_name=x.csv", b"a,b\n1,2\n")


def _model_files() -> Iterator[Case]:
    for name, body in {**_safetensors(), **_gguf(), **_documents()}.items():
        path = name.split("-")[-1]
        yield Case(f"file-{name}", "PUT", f"/v1/registry/imports/{{import_id}}/files/{path}", body)


def _safetensors() -> dict[str, bytes]:
    def file(header: bytes, data: bytes = b"1234") -> bytes:
        return struct.pack("<Q", len(header)) + header + data

    def shaped(shape: object, offsets: object = (0, 4)) -> bytes:
        return file(json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode())

    headers = {
        "rank": shaped([2**62] * 90_000),
        "rank-of-ones": shaped([1] * 300_000),
        "product": shaped([2**62] * 16),
        "negative": shaped([-1]),
        "float": shaped([1.5]),
        "text": shaped("x" * 100_000),
        "offsets": shaped([1], [0] * 200_000),
        "backwards": shaped([1], [4, 0]),
        "beyond": shaped([2**40], [0, 2**42]),
        "number": file(b'{"w":' + b"9" * 900_000 + b"}"),
        "deep": file(b"[" * 900_000),
        "lists": file(b"[" + b"[]," * 300_000 + b"[]]"),
        "twice": file(b"{" + b"".join(b'"t%d":1,' % n for n in range(70_000)) + b'"t0":1}'),
        "many": file(b"{" + b"".join(b'"t%d":{},' % n for n in range(70_000)) + b'"z":1}'),
        "length": struct.pack("<Q", 2**63) + b"{}",
        "empty": b"",
    }
    return {f"safetensors-{name}-model.safetensors": body for name, body in headers.items()}


def _gguf() -> dict[str, bytes]:
    def entry(body: bytes) -> bytes:
        return _GGUF + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k" + body

    headers = {
        "tensors": _GGUF + struct.pack("<IQQ", 3, 2**63, 0),
        "entries": _GGUF + struct.pack("<IQQ", 3, 1, 2**63),
        "texts": entry(struct.pack("<IIQ", 9, 8, 2_000_000) + struct.pack("<Q", 0) * 120_000),
        "array": entry(struct.pack("<IIQ", 9, 0, 2**63)),
        "string": entry(struct.pack("<IQ", 8, 2**62)),
        "nested": entry(struct.pack("<IIQ", 9, 9, 1_000_000) + b"\0" * 100_000),
        "dimensions": _GGUF + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"w" + struct.pack("<I", 2**31),
        "short": _GGUF,
    }
    return {f"gguf-{name}-model.gguf": body for name, body in headers.items()}


def _documents() -> dict[str, bytes]:
    return {
        "lists-config.json": b"[" + b"[]," * 300_000 + b"[]]",
        "large-config.json": b'{"a":"' + b"x" * (5 * 2**20) + b'"}',
        "deep-config.json": b'{"a":' * 100_000,
        "code-config.json": b'{"auto_map":{}}',
        "twice-config.json": b"{" + b"".join(b'"k%d":1,' % n for n in range(80_000)) + b'"k0":2}',
        "pickle-config.json": b"\x80\x04x",
        "lists-tokenizer.json": b"[" + b"[]," * 2_600_000 + b"[]]",
        "deep-tokenizer.json": b"[" * 900_000,
        "open-tokenizer.json": b'"' + b"\\" * 900_001,
        "pickle-model.bin": b"\x80\x04x",
    }
