"""Routes of collections: separate libraries in one service.

The other routes reach the images of a collection by `collection=NAME`.
"""

from __future__ import annotations

from fastapi import APIRouter, status

from service.dependencies import ADMIN, READ, CollectionInPath, GuardedRoute, RuntimeOf
from service.schemas.collections import CollectionBody, CollectionsBody

router = APIRouter(
    prefix="/collections", tags=["collections"], route_class=GuardedRoute
)


@router.get("", dependencies=[READ])
def list_collections(runtime: RuntimeOf) -> CollectionsBody:
    """The names of all collections, in alphabetical order."""
    names = runtime.collections.names()
    return CollectionsBody(collections=[CollectionBody(name=name) for name in names])


@router.put("/{name}", status_code=status.HTTP_201_CREATED, dependencies=[ADMIN])
def create_collection(runtime: RuntimeOf, name: CollectionInPath) -> CollectionBody:
    """Make a new, empty collection; 409 if there is one of this name."""
    runtime.collections.create(name)
    return CollectionBody(name=name)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, dependencies=[ADMIN])
def delete_collection(runtime: RuntimeOf, name: CollectionInPath) -> None:
    """Delete a collection with all its images."""
    runtime.collections.delete(name)
