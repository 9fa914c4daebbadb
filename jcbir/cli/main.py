"""The command line. A command is a frozen record whose fields are its options; what it does is one function.

Exit status: 0 done, 2 the caller's mistake, 3 a party refused, 4 a service cannot be reached, 5 damaged, altered or
foreign data (or a wrong passphrase), 130 interrupted. `--json` prints one JSON object on standard output and nothing
else there; an error is one too, `{"error": code, "reason": sentence}`.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

from jcbir.cli import options as plain, owner_options as owner
from jcbir.cli.console import answer, note, open_screen
from jcbir.cli.exit_codes import DONE, classify


@dataclasses.dataclass(frozen=True)
class Owner:
    """Found a collection, publish photographs, admit and revoke users."""

    command: (
        Annotated[owner.OwnerInit, subcommand("init")]
        | Annotated[owner.OwnerTrain, subcommand("train")]
        | Annotated[owner.OwnerPublish, subcommand("publish")]
        | Annotated[owner.OwnerSend, subcommand("send")]
        | Annotated[owner.OwnerGrant, subcommand("grant")]
        | Annotated[owner.OwnerRevoke, subcommand("revoke")]
        | Annotated[owner.OwnerRekey, subcommand("rekey")]
        | Annotated[owner.OwnerInfo, subcommand("info")]
    )


@dataclasses.dataclass(frozen=True)
class User:
    """Make keys, join a collection, search it."""

    command: (
        Annotated[plain.UserInit, subcommand("init")]
        | Annotated[plain.UserJoin, subcommand("join")]
        | Annotated[plain.UserQuery, subcommand("query")]
        | Annotated[plain.UserInfo, subcommand("info")]
    )


@dataclasses.dataclass(frozen=True)
class Serve:
    """Run a service until Ctrl-C or SIGTERM; logs go to standard error."""

    command: Annotated[plain.ServeCloud, subcommand("cloud")] | Annotated[plain.ServeAuthority, subcommand("authority")]


@dataclasses.dataclass(frozen=True)
class Store:
    """Look after the cloud's store."""

    command: (
        Annotated[plain.StoreInfo, subcommand("info")]
        | Annotated[plain.StoreVerify, subcommand("verify")]
        | Annotated[plain.StoreCompact, subcommand("compact")]
        | Annotated[plain.StoreBackup, subcommand("backup")]
    )


@dataclasses.dataclass(frozen=True)
class Weights:
    """Pretrained networks: list, fetch, convert, check."""

    command: (
        Annotated[plain.WeightsList, subcommand("list")]
        | Annotated[plain.WeightsFetch, subcommand("fetch")]
        | Annotated[plain.WeightsConvert, subcommand("convert")]
        | Annotated[plain.WeightsCheck, subcommand("check")]
    )


Command = (
    Annotated[Owner, subcommand("owner")]
    | Annotated[User, subcommand("user")]
    | Annotated[Serve, subcommand("serve")]
    | Annotated[Store, subcommand("store")]
    | Annotated[plain.Cost, subcommand("cost")]
    | Annotated[Weights, subcommand("weights")]
    | Annotated[plain.Demo, subcommand("demo")]
    | Annotated[plain.Version, subcommand("version")]
)

FUNCTIONS = {
    owner.OwnerInit: "owner:init",
    owner.OwnerTrain: "owner:train",
    owner.OwnerPublish: "owner:publish",
    owner.OwnerSend: "owner:send",
    owner.OwnerGrant: "owner:grant",
    owner.OwnerRevoke: "owner:revoke",
    owner.OwnerRekey: "owner:rekey",
    owner.OwnerInfo: "owner:info",
    plain.UserInit: "user:init",
    plain.UserJoin: "user:join",
    plain.UserQuery: "user:query",
    plain.UserInfo: "user:info",
    plain.ServeCloud: "serve_cloud:cloud",
    plain.ServeAuthority: "serve_authority:authority",
    plain.StoreInfo: "store:info",
    plain.StoreVerify: "store:verify",
    plain.StoreCompact: "store:compact",
    plain.StoreBackup: "store:backup",
    plain.Cost: "cost:predict",
    plain.WeightsList: "weights:show",
    plain.WeightsFetch: "weights:fetch",
    plain.WeightsConvert: "weights:convert",
    plain.WeightsCheck: "weights:check",
    plain.Demo: "demo.command:demo",
    plain.Version: "demo.command:version",
}
"""Options to the module of `jcbir.cli` and the function in it that does the work."""

_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)


def main() -> None:
    """Run the command that the arguments name."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Parse and run; every expected error ends in one line and a status of its own."""
    command: Any = tyro.cli(
        Command, prog="jcbir", description="Private content-based image search.", args=list(arguments), config=_STYLE
    )  # fmt: skip
    chosen = command.command if type(command) in (Owner, User, Serve, Store, Weights) else command
    screen = open_screen(json=chosen.output.json)
    try:
        module, function = FUNCTIONS[type(chosen)].split(":")
        getattr(importlib.import_module(f"jcbir.cli.{module}"), function)(chosen, screen)
    except BrokenPipeError:
        # The reader left (`| head`): that is its right, and the rest is for nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ValueError, OSError, ImportError, KeyboardInterrupt) as error:
        failure = classify(error)
        if failure is None:
            raise
        note(screen, f"jcbir: {failure.reason}")
        if screen.json:
            answer(screen, {"error": failure.code, "reason": failure.reason})
        return failure.status
    return DONE
