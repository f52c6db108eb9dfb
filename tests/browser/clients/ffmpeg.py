"""Runs a printed FFmpeg command line with the FFmpeg inside PyAV, for machines whose ffmpeg has no WHIP muxer.

    ffmpeg.py SECONDS 'ffmpeg -re -stream_loop -1 -i FILE ... -f whip URL'

The line is parsed, not interpreted: an option that is not known here is an error, so the printed options are the ones that
run. Ends after SECONDS of media, or with the muxer's error.
"""
import itertools
import shlex
import sys
import time
from fractions import Fraction

import av


def parse(line):
    words = shlex.split(line)
    if words[:1] != ["ffmpeg"]:
        sys.exit(f"not an ffmpeg line: {line}")
    options, outputs, word = {}, [], iter(words[1:])
    for name in word:
        if name == "-re":
            options["re"] = True
        elif name.startswith("-"):
            options[name[1:]] = next(word)
        else:
            outputs.append(name)
    known = {"re", "stream_loop", "i", "c:v", "preset", "tune", "bf", "g", "pix_fmt", "c:a", "ar", "ac", "b:a", "f", "authorization"}
    if unknown := sorted(set(options) - known):
        sys.exit(f"options that this runner does not know: {unknown}")
    if len(outputs) != 1 or options.get("f") != "whip" or not options.get("re") or options.get("stream_loop") != "-1":
        sys.exit(f"expected one WHIP output fed in real time from a looped input: {line}")
    return options, outputs[0]


def frames(path):
    """Decoded frames of the file, over and over, with the kind and the time in seconds since the first."""
    offset = 0.0
    for _ in itertools.count():
        end = offset
        with av.open(path) as source:
            streams = source.streams.video[:1] + source.streams.audio[:1]
            for frame in source.decode(*streams):
                kind = "video" if isinstance(frame, av.VideoFrame) else "audio"
                at = offset + frame.time
                length = frame.samples / frame.sample_rate if kind == "audio" else float(1 / source.streams.video[0].average_rate)
                end = max(end, at + length)
                yield kind, at, frame
        offset = end


def main():
    seconds, (options, url) = float(sys.argv[1]), parse(sys.argv[2])
    muxer = {key: options[key] for key in ["authorization"] if key in options}
    with av.open(options["i"]) as source:
        picture = source.streams.video[0]
        rate, width, height = picture.average_rate, picture.width, picture.height
    with av.open(url, "w", format="whip", options=muxer) as sink:
        encoder = {key: options[key] for key in ["preset", "tune", "bf", "g"] if key in options}
        video = sink.add_stream(options["c:v"], rate=rate, options=encoder)
        video.width, video.height, video.pix_fmt = width, height, options["pix_fmt"]
        layout = {"1": "mono", "2": "stereo"}[options["ac"]]
        audio = sink.add_stream(options["c:a"], rate=int(options["ar"]), layout=layout)
        audio.bit_rate = int(options["b:a"].rstrip("k")) * 1000
        resampler = av.AudioResampler(format=audio.format.name, layout=layout, rate=int(options["ar"]))
        samples, start = 0, time.monotonic()
        for kind, at, frame in frames(options["i"]):
            if at > seconds:
                break
            time.sleep(max(0.0, start + at - time.monotonic()))
            if kind == "video":
                frame.pts, frame.time_base = round(at * 90000), Fraction(1, 90000)
                sink.mux(video.encode(frame))
            else:
                frame.pts = None
                for part in resampler.resample(frame):
                    part.pts, part.time_base = samples, Fraction(1, int(options["ar"]))
                    samples += part.samples
                    sink.mux(audio.encode(part))
    print(f"sent {seconds} s with FFmpeg {av.ffmpeg_version_info}")


main()
