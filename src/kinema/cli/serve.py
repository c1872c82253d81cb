"""`kinema serve`: the web page and the HTTP API."""

import argparse
from pathlib import Path

from kinema.cli.console import TERMINATED, say
from kinema.errors import InputError

PORT = 8080
FOLDER = Path("outputs")
LOCAL = ("127.0.0.1", "localhost", "::1")


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen; 0.0.0.0 is everywhere; default: %(default)s"
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="videos, queue, keys and loras/; default: %(default)s")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="presets to offer; default: all whose weights are here")
    parser.add_argument("--queue", metavar="URL", help="database of the queue, as SQLAlchemy reads it; default: a file in the folder")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="API keys, hashed; default: keys in the folder, where there is one")
    parser.add_argument("--open", action="store_true", help="ask nobody for a key, also when listening beyond this machine")
    parser.add_argument(
        "--workers",
        nargs="*",
        metavar="DEVICE",
        help="one worker each, such as cuda:0 cuda:1; none: page and API alone; default: every GPU",
    )
    parser.add_argument(
        "--time-limit", type=float, default=60, metavar="MINUTES", help="a video that takes longer is stopped; default: %(default)s"
    )
    parser.add_argument(
        "--engine",
        choices=("uvicorn", "ray"),
        default="uvicorn",
        help="ray: the API in replicas, and one for the page; default: %(default)s",
    )
    parser.add_argument("--replicas", type=int, default=2, help="with --engine ray; default: %(default)s")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    key = actions.add_parser("key", help="make an API key").add_subparsers(metavar="ACTION", required=True)
    add = key.add_parser("add", help="make a key, show it once, and keep its hash")
    add.add_argument("name", metavar="NAME", help="whose it is, one word")
    add.add_argument(
        "--priority", type=int, default=0, metavar="N", help="how high its jobs may go in the queue, up to 10; default: %(default)s"
    )
    add.set_defaults(run=run_add_key)


def keys_file(args: argparse.Namespace) -> Path:
    found: Path = args.keys or args.folder / "keys"
    return found


def run_add_key(args: argparse.Namespace) -> None:
    from kinema.serve.guard import Keys
    from kinema.serve.orders import URGENT

    if not 0 <= args.priority <= URGENT:
        raise InputError(f"priority={args.priority} is out of range: use 0 to {URGENT}")
    print(Keys(keys_file(args)).add(args.name, args.priority))
    say(f"kinema: the key of {args.name} is shown only now; its hash lies in {keys_file(args)}")


def run(args: argparse.Namespace) -> None:
    """Check what was asked for, say where the page is, and serve."""
    file = keys_file(args)
    if not 1 <= args.port <= 65535:
        raise InputError(f"port={args.port} is out of range: use 1 to 65535; {PORT} is usual")
    if args.host not in LOCAL and not args.open and not file.exists():
        raise InputError(f"host={args.host} lets others in, and there are no keys: kinema serve key add NAME, or --open if all may use it")
    from kinema.serve.app import open_queue, serve
    from kinema.serve.fitting import fittings
    from kinema.serve.guard import Keys
    from kinema.serve.jobs import Limits
    from kinema.serve.orders import Service
    from kinema.serve.supervisor import devices

    models = fittings(args.models)
    if not models:
        raise InputError("no model has its weights here: see kinema info")
    if args.time_limit <= 0:
        raise InputError(f"time_limit={args.time_limit} must be above 0: 60 minutes are usual")
    keys, limits = Keys(file) if file.exists() and not args.open else None, Limits(seconds=60 * args.time_limit)
    service = Service(queue=open_queue(args.folder, args.queue, limits), folder=args.folder.resolve(), models=models, keys=keys)
    workers = devices() if args.workers is None else args.workers
    say(f"kinema: http://{args.host}:{args.port} with {', '.join(models)}{', keys asked for' if keys else ''}; Ctrl-C ends it")
    try:
        if args.engine == "ray":
            from kinema.serve import replicas

            shared = replicas.Shared(
                folder=service.folder, url=service.queue.url, limits=limits, models=tuple(models), keys=keys.path if keys else None
            )
            replicas.serve(shared, args.host, args.port, args.replicas, workers)
        else:
            serve(service, args.host, args.port, workers)
    except (KeyboardInterrupt, SystemExit) as stop:  # the usual ways to end it
        if isinstance(stop, SystemExit) and stop.code != TERMINATED:
            raise
