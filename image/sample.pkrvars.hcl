# A copy with the bank's own values is what `packer build -var-file=...` reads.
subscription_id = "00000000-0000-0000-0000-000000000000"
location        = "swedencentral"

# The image definition exists already: Linux, generation 2, trusted launch.
gallery = {
  resource_group = "bank-x-images"
  name           = "bank_x"
  image          = "ledger-node"
}
image_version = "1.0.0"

# Where the bank hosts the package with Azure's mount helper, and what `sha256sum` prints of it.
aznfs_url    = "https://packages.bank-x.example/aznfs_amd64.deb"
aznfs_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
