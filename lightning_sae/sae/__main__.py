"""`python -m lightning_sae.sae` is `lightning-sae sae`."""

from lightning_sae.program import command

main = command("sae")

if __name__ == "__main__":
    main()
