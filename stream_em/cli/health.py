"""`stream-em health`: ask a running engine whether it lives, or is ready."""

import click

from stream_em.cli.shell import say, shell


@click.command("health", short_help="Ask a running engine whether it is well.")
@click.option("--url", default="http://127.0.0.1:9464", show_default=True, help="The engine.")
@click.option("--ready", is_flag=True, help="Ask /readyz instead of /livez.")
@click.option("--timeout", default=3.0, show_default=True, help="Seconds to wait.")
@shell
def command(url: str, ready: bool, timeout: float) -> None:
    """Exit with 0 when the engine answers that it is well, else with 1."""
    status, body = _asked(url.rstrip("/") + ("/readyz" if ready else "/livez"), timeout)
    say(body.strip())
    if status != 200:
        raise click.exceptions.Exit(1)


def _asked(url: str, timeout: float) -> tuple[int, str]:
    """Status and body; status 0 when nobody answers."""
    import urllib.error
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return 0, f"no answer from {url}: {reason}; is the engine running, and is this its address?"
