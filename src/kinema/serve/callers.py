"""Who looks at the page, in which language, and what is theirs."""

from kinema.errors import MissingExtraError
from kinema.serve.api import user_at
from kinema.serve.jobs import Job
from kinema.serve.orders import Service
from kinema.serve.words import language_of

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error


def language_at(request: gr.Request) -> str:
    return language_of(request.headers.get("accept-language"))


def user_of(service: Service, request: gr.Request) -> str:
    """Raises gradio.Error where the key is not valid any more."""
    user = user_at(service, request.request)
    if user is None:
        raise gr.Error("the key is no longer valid: reload the page", print_exception=False)
    return user


def own(service: Service, name: str | None, request: gr.Request) -> Job | None:
    """A job, if it is there and the caller's."""
    job = service.queue.get(name) if name else None
    return job if job and job.user == user_of(service, request) else None
