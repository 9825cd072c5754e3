"""`portico completion`: what a shell has to read so that Tab completes portico's commands and options."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes Tab complete portico's commands and options in a shell.

    \b
    bash (4.4 or newer)    eval "$(portico completion bash)"       in ~/.bashrc
    zsh                    eval "$(portico completion zsh)"        in ~/.zshrc
    fish                   portico completion fish > ~/.config/fish/completions/portico.fish
    """
    from click.shell_completion import get_completion_class

    form = get_completion_class(shell)
    assert form is not None, "click knows these three"
    # click's bash form asks bash for its version first, which must not depend on a bash being here.
    maker = form(ctx.find_root().command, {}, "portico", "_PORTICO_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())
