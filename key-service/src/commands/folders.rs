//! Makes the folders that the configuration names, on the volumes of a pod.

use strongroom_runtime::folder::{Folder, FolderError};

use crate::config::Config;

pub(super) fn ensure(config: &Config) -> Result<(), FolderError> {
    let own = |path| Folder {
        path,
        mode: 0o700,
        group: None,
    };
    let mut folders = vec![own(&*config.data_dir), own(&*config.audit.dir)];
    folders.extend(config.admin_socket.parent().map(own));
    if let Some(socket) = &config.kms_socket
        && let Some(path) = socket.path.parent()
    {
        folders.push(Folder {
            path,
            mode: 0o750,
            group: socket.group,
        });
    }
    folders.iter().try_for_each(Folder::ensure)
}
