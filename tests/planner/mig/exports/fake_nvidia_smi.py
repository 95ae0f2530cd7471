#!/usr/bin/env python3
"""A stand-in for `nvidia-smi` on one node: the commands that the scripts use, over a file with the driver's state.

It answers in the tables of the real tool (MIG User Guide r590, "Getting started"; listings published for A100, H100 and
RTX PRO 6000) and refuses what the driver refuses: overlap, too many, what is in use, MIG mode off, unknown options. The
state is {"gpus": {index: {"uuid", "mig", "resets", "profiles": {id: {...}}, "instances": [...]}}, "next": n}; a
workload runs on an instance when the test says so. Instance ids say nothing about starts, as on real boards.
"""

import json
import os
import re
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_GPUS"])


def main(words):
    state = json.loads(STATE.read_text())
    with Path(os.environ["FAKE_GPUS_LOG"]).open("a") as log:
        log.write(json.dumps(words) + "\n")
    if words[:1] == ["mig"]:
        mig(
            state,
            options(words[1:], flags={"-lgi", "-lci", "-dci", "-dgi", "-C"}, values={"-i", "-gi", "-cgi", "-cci"}),
        )
    else:
        device(state, options(words, flags=set(), values={"-i", "-mig", "--query-gpu", "--format"}, has_equals=True))
    STATE.write_text(json.dumps(state))


def options(words, *, flags, values, has_equals=False):
    found = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if has_equals and "=" in word:
            name, value = word.split("=", 1)
        elif word == "--format" or (has_equals and word == "--query-gpu"):
            name, value = word, words.pop(0)
        elif word in flags:
            name, value = word, True
        elif word in values and words:
            name, value = word, words.pop(0)
        else:
            refuse(f"Option {word!r} is not recognized.", 2)
        if name not in flags | values or name in found:
            refuse(f"Option {word!r} is not recognized.", 2)
        found[name] = value
    return found


def mig(state, asked):
    gpu = chosen(state, asked.pop("-i", None))
    verbs = [name for name in asked if name not in ("-gi", "-C")]
    if len(verbs) != 1 or ("-C" in asked and verbs != ["-cgi"]):
        refuse(f"Exactly one command is needed, not {verbs}.", 2)
    if not gpu["mig"]:
        refuse("No MIG-enabled devices found.", 6)
    verb = verbs[0]
    if verb == "-lgi":
        list_instances(gpu)
    elif verb == "-cgi":
        for asked_for in asked["-cgi"].split(","):
            create_instance(state, gpu, asked_for, with_compute="-C" in asked)
    else:
        instance = next((one for one in gpu["instances"] if str(one["id"]) == asked.get("-gi")), None)
        if instance is None:
            refuse("Unable to find the GPU instance: Not Found", 6)
        {"-lci": list_compute, "-dci": destroy_compute, "-dgi": destroy_instance, "-cci": create_compute}[verb](
            gpu, instance, asked[verb]
        )


def chosen(state, name):
    for index, gpu in state["gpus"].items():
        if name in (index, gpu["uuid"]):
            return gpu
    return refuse(f"No devices were found for {name!r}.", 6)


def list_instances(gpu):
    if not gpu["instances"]:
        refuse("No GPU instances found: Not Found", 6)
    say("+-------------------------------------------------------+")
    say("| GPU instances:                                        |")
    say("| GPU   Name             Profile  Instance   Placement  |")
    say("|                          ID       ID       Start:Size |")
    say("|=======================================================|")
    for one in sorted(gpu["instances"], key=lambda one: -one["id"]):
        profile = gpu["profiles"][one["profile"]]
        place = f"{one['start']}:{profile['size']}"
        say(f"|   0  MIG {profile['name']:<15}  {one['profile']:>2}  {one['id']:>7}  {place:>12}     |")
        say("+-------------------------------------------------------+")


def create_instance(state, gpu, asked, *, with_compute):
    found = re.fullmatch(r"(\d+):(\d+)", asked)
    if found is None or found[1] not in gpu["profiles"]:
        refuse(f"Unable to create a GPU instance on GPU 0 using profile {asked}: Invalid Argument", 2)
    profile, start = gpu["profiles"][found[1]], int(found[2])
    if start not in profile["starts"]:
        refuse(f"Unable to create a GPU instance using placement {asked}: Invalid Argument", 2)
    span = set(range(start, start + profile["size"]))
    for one in gpu["instances"]:
        if span & set(range(one["start"], one["start"] + gpu["profiles"][one["profile"]]["size"])):
            refuse(f"Unable to create a GPU instance using profile {asked}: Insufficient Resources", 19)
    if sum(one["profile"] == found[1] for one in gpu["instances"]) >= profile["most"]:
        refuse(f"Unable to create a GPU instance using profile {asked}: Insufficient Resources", 19)
    state["next"] = (state["next"] * 7 + 3) % 1009
    compute = [[profile["name"], None]] if with_compute else []
    gpu["instances"].append({"id": state["next"], "profile": found[1], "start": start, "compute": compute})
    say(f"Successfully created GPU instance ID {state['next']} on GPU 0 using profile MIG {profile['name']}")


def create_compute(gpu, instance, asked):
    profile = gpu["profiles"][instance["profile"]]
    width = {f"{n}c.{profile['name']}": n for n in range(1, profile["slices"])} | {profile["name"]: profile["slices"]}
    for name in asked.split(","):
        taken = sum(width[held] for held, _ in instance["compute"])
        if name not in width or taken + width[name] > profile["slices"]:
            refuse(f"Unable to create a compute instance using profile {name}: Insufficient Resources", 19)
        instance["compute"].append([name, None])


def list_compute(gpu, instance, _):
    if not instance["compute"]:
        refuse("No compute instances found: Not Found", 6)
    say("| Compute instances: |")


def destroy_compute(gpu, instance, _):
    if not instance["compute"]:
        refuse("No compute instances found: Not Found", 6)
    if any(workload for _, workload in instance["compute"]):
        refuse("Unable to destroy compute instance ID 0: In use by another client", 19)
    instance["compute"] = []


def destroy_instance(gpu, instance, _):
    if instance["compute"]:
        refuse("Unable to destroy GPU instance: In use by another client", 19)
    gpu["instances"].remove(instance)


def device(state, asked):
    gpu = chosen(state, asked.pop("-i", None))
    if asked == {"--query-gpu": "mig.mode.current", "--format": "csv,noheader"}:
        say("Enabled" if gpu["mig"] else "Disabled")
    elif list(asked) == ["-mig"] and asked["-mig"] in ("0", "1"):
        if gpu["resets"] and any(workload for one in gpu["instances"] for _, workload in one["compute"]):
            say("Warning: MIG mode is in pending state: In use by another client")
        elif gpu["instances"] and asked["-mig"] == "0":
            refuse("Unable to disable MIG Mode: In use by another client", 19)
        else:
            gpu["mig"] = asked["-mig"] == "1"
            say("All done.")
    else:
        refuse(f"Options {asked} are not understood.", 2)


def say(line):
    sys.stdout.write(f"{line}\n")


def refuse(sentence, code):
    say(sentence)
    sys.exit(code)


main(sys.argv[1:])
