"""Transformers' pipeline behind one route of FastAPI: what `benchmarks.serving` compares with. Prints its address."""

import io
import socket
from typing import Annotated

import soundfile
import uvicorn
from fastapi import FastAPI, Form, UploadFile
from transformers import pipeline

from benchmarks.common import STARTER

app = FastAPI()
recognise = pipeline("automatic-speech-recognition", model=str(STARTER), device="cpu")


@app.post("/v1/audio/transcriptions")
def transcribe(file: UploadFile, model: Annotated[str, Form()]) -> dict[str, str]:
    waveform, rate = soundfile.read(io.BytesIO(file.file.read()), dtype="float32")
    return {"text": str(recognise({"raw": waveform, "sampling_rate": rate})["text"])}  # type: ignore[call-overload]


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
