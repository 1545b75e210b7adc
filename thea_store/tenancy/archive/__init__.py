"""A whole tenant: taken out as an archive, brought in, moved, ended, and brought back from a backup.

Everything here is for an operator and blocks; asynchronous code calls it in a thread. Which tables there are, and how
they hang together, comes from the catalog, so a service's own tables are covered like the library's.
"""

from thea_store.tenancy.archive.ending import Ended, end_tenant
from thea_store.tenancy.archive.exporting import Exported, export_tenant
from thea_store.tenancy.archive.file import Archive, Manifest, Part
from thea_store.tenancy.archive.importing import Imported, import_tenant
from thea_store.tenancy.archive.moving import Moved, move_tenant
from thea_store.tenancy.archive.restoring import Restored, restore_tenant
from thea_store.tenancy.archive.session import Progress

__all__ = [
    "Archive",
    "Ended",
    "Exported",
    "Imported",
    "Manifest",
    "Moved",
    "Part",
    "Progress",
    "Restored",
    "end_tenant",
    "export_tenant",
    "import_tenant",
    "move_tenant",
    "restore_tenant",
]
