"""`python -m lightning_sae.compare` is `lightning-sae compare`."""

from lightning_sae.program import command

main = command("compare")

if __name__ == "__main__":
    main()
