"""minivae explore: a run's latent space as a page, in a file or kept live beside the run."""

import argparse
import webbrowser

from ..errors import UsageError
from ..explorer import Server, look_at, page
from ..runs import write_atomically


def explore_command(options: argparse.Namespace, device: str | None) -> None:
    first = options.folders[0]
    if options.serve:
        if len(options.folders) > 1:
            raise UsageError(f"--serve shows one run, and {len(options.folders)} were given; leave it out to have them on one page")
        server = Server(first, options.port)
        print(f"{server.url} shows {first} as it is trained; Ctrl-C ends it", flush=True)
        if options.open:
            webbrowser.open(server.url)
        try:
            server.run()
        except KeyboardInterrupt:
            server.stop()
        return
    target = options.out or first / "explorer.html"
    text = page([look_at(folder) for folder in options.folders]).encode()
    write_atomically(target, text)
    print(f"{target}: {len(text) / 1e6:.1f} MB, to be opened in a browser; nothing else is needed")
    if options.open:
        webbrowser.open(target.absolute().as_uri())
