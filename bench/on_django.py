"""The charge on Django, as WSGI; one application a process, because Django's settings are the process's."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from bench.charge import PATH, Effects


def django_app(effects: Effects) -> Any:
    """Make the application."""

    def charge(request: HttpRequest) -> HttpResponse:
        asked = json.loads(request.body)
        if not asked["amount"]:
            effects.hold()
        return JsonResponse(effects.charge(asked["amount"], asked["currency"]), status=201)

    # Django finds what answers a path in a module.
    urls = ModuleType("bench_urls")
    urls.urlpatterns = [path(PATH.removeprefix("/"), charge)]  # type: ignore[attr-defined]
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
        ROOT_URLCONF=urls,
    )
    return get_wsgi_application()
