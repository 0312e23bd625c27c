"""A Django app in a single file. In a project, the handler is project.wsgi.application.

$ pipe-init run app.application -C examples/django --request '/hello/Ada/'
{"hello": "Ada", "method": "GET", "length": 0}

$ pipe-init run app.application -C examples/django --request '/hello/Ada/' -e 'some text'
{"hello": "Ada", "method": "POST", "length": 9}
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost"], SECRET_KEY="for this example only")


@csrf_exempt
def hello(request, name):
    return JsonResponse({"hello": name, "method": request.method, "length": len(request.body)})


urlpatterns = [path("hello/<name>/", hello)]
application = get_wsgi_application()
