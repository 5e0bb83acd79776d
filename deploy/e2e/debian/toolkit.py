"""django-oauth-toolkit of the Debian package, in the smallest Django there is.

    toolkit.py PORT BASE_URL REDIRECT_URI KEY_FILE FOLDER PASSWORD CLIENTS USER...

CLIENTS is {"basic":{"ID":...,"Secret":...},...}. POST /rig/delete?user=... and /rig/deactivate?user=... are the administrator's.
"""
import json
import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings

port, base, redirect, key, folder, password, clients, *people = sys.argv[1:]
sys.modules["rigdjango"] = sys.modules["__main__"]
with open(key) as file:
    private = file.read()
settings.configure(
    SECRET_KEY="a-secret-for-a-test-alone", ALLOWED_HOSTS=["*"], ROOT_URLCONF="rigdjango", USE_TZ=True, LOGIN_URL="/login/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "db"), "OPTIONS": {"timeout": 20}}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {
        "context_processors": ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"],
        "loaders": [("django.template.loaders.locmem.Loader", {
            "login.html": '<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>'}),
            "django.template.loaders.app_directories.Loader"]}}],
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True, "OIDC_RSA_PRIVATE_KEY": private, "OIDC_ISS_ENDPOINT": base + "/o",
        "OAUTH2_VALIDATOR_CLASS": "rigdjango.Validator",
        "SCOPES": {"openid": "openid", "email": "email", "profile": "profile", "groups": "groups"},
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from oauth2_provider.models import Application  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    """What the documentation tells an operator to write who wants claims."""

    def get_additional_claims(self, request):
        user = request.user
        return {"email": user.email, "email_verified": True, "name": user.username, "groups": ["admins", "staff"]}


@csrf_exempt
def administer(request, what):
    user = User.objects.get(username=request.GET["user"])
    if what == "delete":
        user.delete()
    else:
        User.objects.filter(pk=user.pk).update(is_active=False)
    return HttpResponse(status=204)


urlpatterns = [
    path("login/", LoginView.as_view(template_name="login.html")),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("rig/<what>", administer),
    path("ready", lambda request: HttpResponse("ready")),
]

first = not os.path.exists(os.path.join(folder, "db"))
call_command("migrate", verbosity=0)
if first:
    for person in people:
        User.objects.create_user(person, person + "@example.com", password)
    for client in json.loads(clients).values():
        Application.objects.create(
            name=client["ID"], client_id=client["ID"], client_secret=client["Secret"], redirect_uris=redirect, algorithm="RS256",
            client_type="confidential", authorization_grant_type="authorization-code")


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


make_server("127.0.0.1", int(port), get_wsgi_application(), Server, Quiet).serve_forever()
