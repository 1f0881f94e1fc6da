"""The objects under gs://BUCKET/DIR in Google Cloud Storage, and what can go wrong with them in one sentence."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError

INSTALL = "pip install google-cloud-storage (requirements-gcs.txt has a tested version)"
SECONDS = 20  # how long a request is tried again


class Overtaken(Exception):
    """An object is not the one that was to be replaced: somebody else has written it since."""


class Objects:
    """The objects under an address; their names here are relative to it. Every method raises UserError.

    Needs the package google-cloud-storage. Of credentials it takes what all of Google's tools take; with
    STORAGE_EMULATOR_HOST=http://HOST:PORT it talks to an emulator instead.
    """

    def __init__(self, address: str):
        """Raises UserError at once where the bucket cannot be listed."""
        bucket, _, folder = address.removeprefix("gs://").partition("/")
        self._prefix = f"{folder.strip('/')}/"
        try:
            from google.cloud.storage import Client, retry, transfer_manager
        except ImportError as error:
            fault = surroundings.import_fault(error, INSTALL)
            if error.name in ("google", "google.cloud", "google.cloud.storage"):
                fault = f"google-cloud-storage is missing; {INSTALL}"
            raise UserError(f"{address} cannot be used: {fault}.") from error
        self._address, self._many = address, transfer_manager
        self._options = {"retry": retry.DEFAULT_RETRY.with_timeout(SECONDS), "timeout": (SECONDS, 60)}
        with self._told():
            self._bucket = Client().bucket(bucket)
            next(iter(self._bucket.list_blobs(prefix=self._prefix, max_results=1, **self._options)), None)

    def names(self) -> list[str]:
        with self._told():
            found = list(self._bucket.list_blobs(prefix=self._prefix, **self._options))
        return [blob.name[len(self._prefix) :] for blob in found if not blob.name.endswith("/")]

    def read(self, name: str) -> tuple[int, bytes]:
        """The generation of an object, and what it holds; 0 and nothing where there is none."""
        with self._told():
            while blob := self._bucket.get_blob(self._prefix + name, **self._options):
                with contextlib.suppress(FileNotFoundError), self._present():  # it may be replaced in between
                    same = self._bucket.blob(blob.name, generation=blob.generation)
                    return blob.generation, same.download_as_bytes(**self._options)
        return 0, b""

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Replaces the object of this generation, 0 for none, and returns the new one's. Raises Overtaken."""
        from google.api_core.exceptions import PreconditionFailed

        blob = self._bucket.blob(self._prefix + name)
        with self._told():
            try:
                blob.upload_from_string(content, if_generation_match=generation, **self._options)
            except PreconditionFailed as error:
                raise Overtaken from error
        return blob.generation

    def get(self, names: Iterable[str], folder: Path) -> None:
        """Copies objects into a folder. Raises FileNotFoundError where one is gone."""
        with self._told(), self._present():
            self._move(self._many.download_many_to_path, names, folder, download_kwargs=dict(self._options))

    def put(self, names: Iterable[str], folder: Path) -> None:
        """Copies files of a folder. Raises FileNotFoundError where one is gone."""
        with self._told():
            self._move(self._many.upload_many_from_filenames, names, folder, upload_kwargs=dict(self._options))

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects that may be there."""
        for name in names:
            with self._told(), contextlib.suppress(FileNotFoundError), self._present():
                self._bucket.blob(self._prefix + name).delete(**self._options)

    def _move(self, move: Callable, names: Iterable[str], folder: Path, **options: dict) -> None:
        common = {"blob_name_prefix": self._prefix, "worker_type": self._many.THREAD, "raise_exception": True}
        move(self._bucket, list(names), str(folder), **common, **options)

    @contextlib.contextmanager
    def _present(self) -> Iterator[None]:
        """An object that is not there, as of a file."""
        from google.api_core.exceptions import NotFound

        try:
            yield
        except NotFound as error:
            if "bucket does not exist" in str(error):
                raise
            raise FileNotFoundError(surroundings.in_short(error.message)) from error

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth
        from requests import RequestException

        try:
            yield
        except (api.GoogleAPIError, auth.GoogleAuthError, RequestException, ConnectionError) as error:
            cause = getattr(error, "cause", None) or error  # of RetryError
            system = re.search(r"\[Errno [-\d]+\] ([\w ]+)", str(cause))  # deep in what requests says
            said = surroundings.in_short(system[1] if system else getattr(cause, "message", None) or cause)
            bucket = self._address.split("/")[2]
            fault, remedy = f"{self._address} cannot be reached: {said}", "mend the network"
            if isinstance(cause, auth.DefaultCredentialsError):
                fault = f"{self._address} cannot be used: there are no Google credentials on this machine"
                remedy = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE"
            elif isinstance(cause, auth.RefreshError):
                fault, remedy = f"{self._address} cannot be used: {said}", "gcloud auth application-default login"
            elif isinstance(cause, (api.Forbidden, api.Unauthorized)):
                fault = f"{self._address} may not be used: {said}"
                remedy = f"give this account the role roles/storage.objectUser on gs://{bucket}"
            elif isinstance(cause, api.NotFound):
                fault = f"There is no bucket {bucket} that this account can see"
                remedy = f"mend its name, or gcloud storage buckets create gs://{bucket}"
            raise UserError(f"{fault}; {remedy}.") from error
