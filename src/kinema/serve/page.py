"""The web page. It talks to the queue, as the API does.

studio.py    a tab that makes videos; there is one for text and, where a model takes them, one for pictures and videos
controls.py  what stands on its left          takeover.py  settings that go back onto the page
show.py      jobs and models as HTML          words.py     what is said, in three languages
"""

import shutil
from pathlib import Path
from typing import Any

from kinema.errors import MissingExtraError
from kinema.serve import show
from kinema.serve.callers import language_at, own, user_of
from kinema.serve.controls import I18N, sides
from kinema.serve.orders import Service
from kinema.serve.studio import QUIET, Studio
from kinema.serve.takeover import Takeover

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

HERE = Path(__file__).parent
SHOWN = 24  # videos in the gallery
CACHE_KEPT = 3600  # seconds that uploaded files stay
SELECT = """element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-id]");
  if (card) trigger("click", {id: card.dataset.id});
});"""


def mount_page(app: Any, service: Service) -> None:
    """The page at / of a FastAPI application."""
    gr.mount_gradio_app(
        app, Page(service).build(), path="/", theme=theme(), css_paths=[HERE / "page.css"], i18n=I18N, ssr_mode=False, max_file_size="64mb",
        head=f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>", footer_links=["settings"], show_error=True,
    )  # fmt: skip


def theme() -> Any:
    """Quiet, with the system's own letters: nothing is fetched from elsewhere."""
    fonts = ("system-ui", "sans-serif")
    return gr.themes.Base(primary_hue="indigo", neutral_hue="zinc", font=fonts, font_mono=("ui-monospace", "monospace"), radius_size="lg")


class Page:
    """All tabs over one service."""

    def __init__(self, service: Service):
        self.service = service

    def build(self) -> gr.Blocks:
        with gr.Blocks(title="Kinema", analytics_enabled=False, delete_cache=(CACHE_KEPT, CACHE_KEPT)) as page:
            gr.HTML('<div class="k-title"><b>Kinema</b></div>')
            with gr.Tabs() as tabs:
                studios = [Studio(self.service, side) for side in sides(self.service.models)]
                takeover = Takeover(self.service, tabs, studios)
                with gr.Tab(I18N("gallery"), id="gallery") as tab:
                    self.gallery(tab, takeover)
                with gr.Tab(I18N("models"), id="models"):
                    models = gr.HTML()
            for studio in studios:
                studio.connect(page, takeover)
            page.load(self.models, None, models, **QUIET)
        return page

    def gallery(self, tab: Any, takeover: Takeover) -> None:
        """Past videos; one that is chosen is shown above the others."""
        chosen, shown = gr.State(), gr.HTML(elem_id="chosen")
        with gr.Column(visible=False) as buttons:
            takeover.lay_out(chosen, "#chosen")
            delete = gr.Button(I18N("delete"), size="sm", variant="stop")
        grid = gr.HTML(js_on_load=SELECT, elem_id="gallery")
        tab.select(self.past, None, grid, **QUIET)
        grid.click(self.choose, None, [chosen, shown, buttons], **QUIET)
        delete.click(self.delete, chosen, [shown, buttons], **QUIET).then(self.past, None, grid, **QUIET)

    def past(self, request: gr.Request) -> str:
        return show.gallery(self.service.queue.finished(user_of(self.service, request), SHOWN), language_at(request))

    def choose(self, event: gr.EventData, request: gr.Request) -> tuple[Any, Any, Any]:
        job = own(self.service, str(event._data.get("id", "")), request)
        if job is None:
            return None, "", gr.Column(visible=False)
        return job.id, show.result(job, language_at(request)), gr.Column(visible=True)

    def delete(self, name: str | None, request: gr.Request) -> tuple[Any, Any]:
        job = own(self.service, name, request)
        if job and self.service.queue.delete(job.id):
            shutil.rmtree(job.place(self.service.folder).parent, ignore_errors=True)
        return "", gr.Column(visible=False)

    def models(self, request: gr.Request) -> str:
        return show.models(self.service.models, language_at(request))
