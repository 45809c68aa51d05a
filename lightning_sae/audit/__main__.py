"""`python -m lightning_sae.audit` is `lightning-sae audit`."""

from lightning_sae.program import command

main = command("audit")

if __name__ == "__main__":
    main()
