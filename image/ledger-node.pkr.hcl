packer {
  required_plugins {
    azure = {
      source  = "github.com/hashicorp/azure"
      version = ">= 2.0.0, < 3.0.0"
    }
  }
}

variable "subscription_id" { type = string }
variable "location" { type = string }

variable "gallery" {
  description = "Image definition of a compute gallery that receives the image."
  type = object({
    resource_group = string
    name           = string
    image          = string
  })
}

variable "image_version" {
  description = "Version of the image: three numbers, such as 1.0.0, which were not used before."
  type        = string
}

variable "packages" {
  description = "Ubuntu packages of the ledger's runtime and of the agent's environment."
  type        = list(string)
  default     = ["openjdk-8-jdk-headless", "maven", "python3-venv", "nftables"]
}

variable "ledger" {
  description = "Arguments of ledger.install: platform, version, folder; then --repository, --artifact, --application."
  type        = list(string)
  default     = ["corda", "4.10", "/opt/decentralized-trust/ledger"]
}

variable "aznfs_url" {
  description = "URL of the package with Azure's mount helper for NFS over TLS."
  type        = string
}

variable "aznfs_sha256" { type = string }

variable "network" {
  description = "Subnet of the build VM, which then has no public address; without it Packer makes both."
  type = object({
    resource_group = string
    name           = string
    subnet         = string
  })
  default = null
}

source "azure-arm" "node" {
  use_azure_cli_auth = true
  subscription_id    = var.subscription_id
  location           = var.location
  vm_size            = "Standard_D2s_v5"

  virtual_network_resource_group_name = var.network == null ? null : var.network.resource_group
  virtual_network_name                = var.network == null ? null : var.network.name
  virtual_network_subnet_name         = var.network == null ? null : var.network.subnet

  os_type             = "Linux"
  image_publisher     = "Canonical"
  image_offer         = "ubuntu-24_04-lts"
  image_sku           = "server"
  secure_boot_enabled = true
  vtpm_enabled        = true
  security_type       = "TrustedLaunch"

  shared_image_gallery_destination {
    subscription   = var.subscription_id
    resource_group = var.gallery.resource_group
    gallery_name   = var.gallery.name
    image_name     = var.gallery.image
    image_version  = var.image_version
  }
}

build {
  sources = ["source.azure-arm.node"]

  provisioner "file" {
    source      = "${path.root}/agent.tar"
    destination = "/tmp/agent.tar"
  }

  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} sh -eux '{{ .Path }}'"
    environment_vars = [
      "DEBIAN_FRONTEND=noninteractive",
      "AZNFS_NONINTERACTIVE_INSTALL=1",
    ]
    inline = [
      "cloud-init status --wait",
      "apt-get update",
      "apt-get dist-upgrade --yes",
      "apt-get install --yes ${join(" ", var.packages)}",
      "curl --fail --silent --show-error --location --output /tmp/aznfs.deb '${var.aznfs_url}'",
      "echo '${var.aznfs_sha256}  /tmp/aznfs.deb' | sha256sum --check",
      "apt-get install --yes /tmp/aznfs.deb",
      # What is patched is a new image: neither may upgrade a VM, and restart its agent, on all VMs at the same hour.
      "apt-get purge --yes unattended-upgrades needrestart",
      "sed --in-place s/AUTO_UPDATE_AZNFS=true/AUTO_UPDATE_AZNFS=false/ /opt/microsoft/aznfs/data/config",
      # Else its watchdog kills processes by numbers of the previous boot.
      "echo 'r! /etc/stunnel/microsoft/aznfs/nfsv4_fileShare/logs/*.pid' > /etc/tmpfiles.d/aznfs.conf",
      "tar --extract --file /tmp/agent.tar --directory / --no-same-owner",
      "/opt/decentralized-trust/install.sh ${join(" ", var.ledger)}",
      "rm /tmp/agent.tar /tmp/aznfs.deb",
      # Makes the next boot the first boot of a new VM.
      "waagent -force -deprovision+user",
    ]
  }
}
