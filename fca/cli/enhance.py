"""``fca enhance``: noisy speech in, speech out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fca.cli.options import (
    BlockSeconds,
    Dereverberate,
    Device,
    FilePerChannel,
    Format,
    Inputs,
    Iterations,
    Jobs,
    Json,
    Manifest,
    Out,
    Overwrite,
    Plot,
    Ray,
    ReferenceChannel,
    Seed,
    Shard,
    chosen,
)
from fca.cli.run import Corpus, Course, Job, contents
from fca.cli.values import enhancer_types

if TYPE_CHECKING:
    from fca.blocks import Block, Signals
    from fca.enhancer import Enhancer

Inference = Annotated[
    Literal["denoise", "encode", "gradient", "sample"],
    typer.Option(
        help="How the speech prior is fitted: by an encoder that sees the noise, too, and "
        "refinement; or beside a factorised noise by its own encoder, gradient steps or sampling."
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        help="Name, folder or hub id of a speech prior, for all inferences but denoise.",
        show_default="speech-prior",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="Further option of fca.Enhancer, such as n_refine=0 or n_bases=8; repeatable.",
        show_default=False,
    ),
]
Noise = Annotated[bool, typer.Option("--noise", help="Write what was taken away, too.")]


def enhance(
    out: Out,
    inputs: Inputs = None,
    manifest: Manifest = None,
    shard: Shard = None,
    ray: Ray = None,
    file_per_channel: FilePerChannel = False,
    inference: Inference = "denoise",
    prior: Prior = None,
    reference_channel: ReferenceChannel = 0,
    iterations: Iterations = None,
    dereverberate: Dereverberate = False,
    option: Options = None,
    device: Device = "auto",
    seed: Seed = 0,
    audio_format: Format = "wav",
    noise: Noise = False,
    plot: Plot = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
    block: BlockSeconds = None,
    jobs: Jobs = 1,
) -> None:
    """Take one talker out of noise, in recordings of 1 to 16 microphones.

    Every recording X gets a folder OUT/X with enhanced.wav, as long as the recording and in its
    scale, and enhancement.json, written last, which says how it was made. Recordings that have
    theirs are skipped; those of the same name are told apart by their folders. The exit status is 1
    if a recording failed, 2 for an invalid option or argument.
    """
    flags = {
        "inference": inference,
        "prior": prior,
        "reference_channel": reference_channel,
        "n_iter": iterations,
        "seed": seed,
        "dereverberate": dereverberate,
    }

    def signals(result: Block) -> Signals:
        named = {"enhanced": result.sources[0]}
        return {**named, "noise": result.residual} if noise else named

    corpus = Corpus(
        inputs=inputs,
        out=out,
        file_per_channel=file_per_channel,
        manifest=manifest,
        shard=shard,
        ray=ray,
    )
    job = Job(
        kind="enhancement",
        corpus=corpus,
        audio_format=audio_format,
        plot=plot,
        as_json=as_json,
        overwrite=overwrite,
        course=Course(block=block, jobs=jobs),
    )
    written = {"noise": noise, **contents(network=prior)}
    job.run(_enhancer, chosen(flags, option, enhancer_types, enhance), signals, written, device)


def _enhancer(**options: Any) -> Enhancer:
    from fca.enhancer import Enhancer

    return Enhancer(**options)
